"""How far apart are two tensors, and how much of that can rounding explain?"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

# A rounding is off by at most half an eps. The formulas of a layer round a number about ten
# times on its way, on both sides; the largest difference seen over every layer, config and
# dtype is a quarter of what this factor allows. An error in a formula is of order 1.
SAFETY = 4


def tolerance(dtype: torch.dtype, terms: int, layers: int = 1) -> float:
    """The relative difference that rounding explains: layers · 4 · (ε + ε_sum · √terms).

    Every gradient is linear in dy, so each of its entries is a sum of at most as many terms as
    dy has numbers. The two sides add them in different orders, and as roundings go up as often
    as down, n of them grow as √n (Higham 2002, "Accuracy and stability of numerical
    algorithms", 2.8), each ε_sum: sums are kept in float32 at least. The result is rounded once
    more to its own type, ε: 2.2e-16 in float64, 1.2e-7 in float32, 9.8e-4 in float16, 7.8e-3
    in bfloat16. Relative means relative to the tensor's largest entry, in which the terms of a
    sum that cancels to a small entry are large too.

    In a whole net every layer hands its roundings on to those behind it: times `layers`.
    """
    wide = torch.promote_types(dtype, torch.float32)
    return layers * SAFETY * (torch.finfo(dtype).eps + torch.finfo(wide).eps * math.sqrt(max(terms, 1)))


class Gap(NamedTuple):
    """The difference of manual from oracle."""

    absolute: float  # the largest
    relative: float  # that over the oracle's largest entry
    at: tuple[int, ...]  # where
    manual: float  # both values there
    oracle: float


def compare(manual: Tensor, oracle: Tensor, floor: float = 0.0) -> Gap:
    """The largest difference; infinite where only one is NaN, or the shapes differ.

    floor: the least number to divide by, for gradients that are 0 but for rounding.
    """
    if manual.shape != oracle.shape:
        return Gap(math.inf, math.inf, (), math.nan, math.nan)
    if manual.numel() == 0:
        return Gap(0.0, 0.0, (), 0.0, 0.0)
    m, a = manual.detach().double(), oracle.detach().double()
    gap = (m - a).abs()
    gap = torch.where((m == a) | (m.isnan() & a.isnan()), 0, gap).nan_to_num(math.inf)
    at = tuple(int(i) for i in torch.unravel_index(gap.argmax(), gap.shape))
    largest = gap.max().item()
    scale = max(a[a.isfinite()].abs().max().item() if a.isfinite().any() else 0.0, floor)
    relative = largest / scale if scale else (0.0 if largest == 0 else math.inf)
    return Gap(largest, relative, at, m[at].item(), a[at].item())


def relative_differences(manual: Tensor, oracle: Tensor) -> Tensor:
    """|manual − oracle| of every entry over the oracle's largest, (numel,) float64."""
    m, a = manual.detach().double().flatten(), oracle.detach().double().flatten()
    return (m - a).abs() / (a.abs().max() if a.numel() and a.abs().max() > 0 else 1)


def cosine(manual: Tensor, oracle: Tensor) -> float:
    """Cosine of the angle between the two, 1 where they point the same way (or both are 0)."""
    if manual.shape != oracle.shape:
        return math.nan
    m, a = manual.detach().double().flatten(), oracle.detach().double().flatten()
    lengths = m.norm() * a.norm()
    return (m @ a / lengths).item() if lengths > 0 else float(torch.equal(m, a))


def ulps(manual: Tensor, oracle: Tensor, dtype: torch.dtype) -> tuple[float, float]:
    """(median, largest) difference in ULPs: steps from one number of dtype to the next.

    An entry that is small by cancellation can be thousands off in a gradient that is right.
    """
    if manual.shape != oracle.shape:
        return math.nan, math.nan
    if manual.numel() == 0:
        return 0.0, 0.0
    info = torch.finfo(dtype)
    m, a = manual.detach().double(), oracle.detach().double()
    _, exponent = torch.frexp(a.abs().clamp(min=info.tiny))  # |a| = f · 2^exponent, ½ ≤ f < 1
    step = torch.ldexp(torch.full_like(a, info.eps), exponent - 1)
    away = torch.where((m == a) | (m.isnan() & a.isnan()), 0, (m - a).abs() / step)
    away = away.nan_to_num(math.inf).flatten()
    return away.median().item(), away.max().item()
