"""Measures of the difference of two tensors, and the difference that rounding can explain."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

# One rounding has an error of at most eps / 2. A layer's formula rounds a number about ten times, on both
# sides. The largest difference measured over all layers, configs and dtypes is a quarter of what this
# factor allows. A wrong formula gives a difference of order 1.
SAFETY = 4


def tolerance(dtype: torch.dtype, terms: int, layers: int = 1) -> float:
    """The relative difference that rounding can explain: layers · 4 · (ε + ε_sum · √terms).

    Every gradient is linear in dy, so each of its entries is a sum of at most as many terms as
    dy has numbers. The two sides add them in different orders. Roundings go up as often as down, so the
    error of n of them grows as √n (Higham 2002, "Accuracy and stability of numerical
    algorithms", 2.8). Each is ε_sum, because sums are computed in float32 at least. The result is rounded
    once more to its own dtype, ε: 2.2e-16 in float64, 1.2e-7 in float32, 9.8e-4 in float16, 7.8e-3
    in bfloat16. The difference is relative to the tensor's largest entry, because a small entry can be
    a sum of large terms that cancel.

    In a net, rounding errors add up over the layers, hence the factor `layers`.
    """
    wide = torch.promote_types(dtype, torch.float32)
    return layers * SAFETY * (torch.finfo(dtype).eps + torch.finfo(wide).eps * math.sqrt(max(terms, 1)))


class Gap(NamedTuple):
    """The difference between manual and oracle."""

    absolute: float  # the largest difference
    relative: float  # divided by the oracle's largest entry
    at: tuple[int, ...]  # index of the largest difference
    manual: float  # both values there
    oracle: float


def compare(manual: Tensor, oracle: Tensor, min_scale: float = 0.0) -> Gap:
    """The largest difference. It is infinite if only one side is NaN at an index, or if shapes differ.

    min_scale: the smallest number to divide by, for gradients that would be 0 without rounding.
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
    scale = max(a[a.isfinite()].abs().max().item() if a.isfinite().any() else 0.0, min_scale)
    relative = largest / scale if scale else (0.0 if largest == 0 else math.inf)
    return Gap(largest, relative, at, m[at].item(), a[at].item())


def largest(*tensors: Tensor | None) -> float:
    """The largest absolute value in these tensors; 0 without any value."""
    return max((t.abs().max().item() for t in tensors if t is not None and t.numel()), default=0.0)


def relative_differences(manual: Tensor, oracle: Tensor) -> Tensor:
    """|manual − oracle| of every entry, divided by the oracle's largest entry: (numel,) float64."""
    m, a = manual.detach().double().flatten(), oracle.detach().double().flatten()
    return (m - a).abs() / (a.abs().max() if a.numel() and a.abs().max() > 0 else 1)


def cosine(manual: Tensor, oracle: Tensor) -> float:
    """Cosine of the angle between the two: 1 if they have the same direction, or if both are 0."""
    if manual.shape != oracle.shape:
        return math.nan
    m, a = manual.detach().double().flatten(), oracle.detach().double().flatten()
    lengths = m.norm() * a.norm()
    return (m @ a / lengths).item() if lengths > 0 else float(torch.equal(m, a))


def ulps(manual: Tensor, oracle: Tensor, dtype: torch.dtype) -> tuple[float, float]:
    """(median, largest) difference in ULPs (units in the last place): steps between numbers of dtype.

    In a correct gradient, an entry that is small by cancellation can differ by thousands of ULPs.
    """
    if manual.shape != oracle.shape:
        return math.nan, math.nan
    if manual.numel() == 0:
        return 0.0, 0.0
    info = torch.finfo(dtype)
    m, a = manual.detach().double(), oracle.detach().double()
    _, exponent = torch.frexp(a.abs().clamp(min=info.tiny))  # |a| = f · 2^exponent, ½ ≤ f < 1
    step = torch.ldexp(torch.full_like(a, info.eps), exponent - 1)
    steps = torch.where((m == a) | (m.isnan() & a.isnan()), 0, (m - a).abs() / step)
    steps = steps.nan_to_num(math.inf).flatten()
    return steps.median().item(), steps.max().item()
