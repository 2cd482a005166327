"""Finite differences: slopes computed from the forward alone, with the error that they can have.

A function of a tensor t is given as () -> terms: a tensor whose sum is the objective, at the current values
of t. Terms are subtracted before they are added, so a large term that doesn't change costs no digits.

The error of a central difference with step h has two parts. The truncation falls as h². The noise is the
rounding of the terms divided by h. `estimate` tries steps from large to small, and keeps the slope with the
smallest error. If this error isn't small, the slope is not resolvable.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

TOLERANCE = 1e-4  # of the largest gradient: a larger difference is an error, a slope with it is resolved
# Steps in units of the entry. The first suits most functions; the others are tried if it doesn't do.
STEPS = (1e-5, 1e-6, 1e-7, 1e-4, 1e-3, 1e-2, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12)
COARSE = (1e-2, 3e-3, 3e-2, 1e-1, 1e-3, 3e-1, 3e-4)  # for numbers of fewer bits than float64
EPS = torch.finfo(torch.float64).eps
NOISE = 8  # standard deviations of the rounding that a difference may be off
Terms = Callable[[], Tensor | float]


class Slopes(NamedTuple):
    """The slopes of an objective along a direction with one step."""

    h: float
    left: float  # from t − h to t
    right: float  # from t to t + h
    low: float  # the sum of every term's smaller slope, and of every term's larger one
    high: float
    noise: float  # what rounding can add to one of the slopes

    @property
    def central(self) -> float:
        """The slope from t − h to t + h."""
        return (self.left + self.right) / 2


class Slope(NamedTuple):
    """The best slope: its value, or the least and the largest at a kink, and its possible error."""

    low: float
    high: float
    error: float
    kink: bool

    def gap(self, claimed: float) -> float:
        """How far a claimed slope is outside."""
        return max(self.low - claimed, claimed - self.high, 0.0)


@dataclass
class Found:
    """The result for one tensor.

    relative  the largest difference of an entry whose slope is resolved, relative to the tensor's largest
              gradient; None if there is none
    excess    the largest difference beyond what the error of its slope allows, in units of the gradient
    kinks     entries at a kink
    """

    relative: float | None = None
    excess: float = 0.0
    kinks: int = 0

    def add(
        self, slope: Slope | None, claimed: float, scale: float, length: float = 1.0, at_kinks: bool = True
    ):
        """Count one more probe.

        scale     what differences are relative to
        length    of the direction
        at_kinks  whether to judge a slope at a kink
        """
        if slope is None or not math.isfinite(claimed):
            return
        self.kinks += slope.kink
        if slope.kink and not at_kinks:
            return
        gap = slope.gap(claimed)
        excess = gap - slope.error - TOLERANCE * scale
        self.excess = max(self.excess, excess / length)
        if slope.error <= TOLERANCE * scale or excess > 0:
            self.relative = max(self.relative or 0.0, gap / scale)


def slopes(terms: Terms, t: Tensor, direction: Tensor, h: float, eps: float = EPS) -> Slopes | None:
    """The slopes at t along a direction, or None if a term that is finite at t isn't beside it.

    Terms that are not finite at t (a masked entry of −inf) are left out. t is restored.
    eps: the rounding of the terms.
    """
    here, original = term_values(terms), t.clone()
    t.add_(direction, alpha=h)
    after = term_values(terms)
    t.copy_(original).sub_(direction, alpha=h)
    before = term_values(terms)
    t.copy_(original)
    judged = here.isfinite()
    right, left = ((b - a)[judged] for a, b in ((here, after), (before, here)))
    if not judged.any() or not (right.isfinite().all() and left.isfinite().all()):
        return None
    moved = here[judged][(right != 0) | (left != 0)]
    noise = NOISE * eps * moved.norm().item() / h
    low, high = torch.minimum(left, right).sum().item() / h, torch.maximum(left, right).sum().item() / h
    return Slopes(h, left.sum().item() / h, right.sum().item() / h, low, high, noise)


def estimate(
    terms: Terms,
    t: Tensor,
    direction: Tensor,
    scale: float,
    claimed: float | None = None,
    unit: float = 1.0,
    eps: float = EPS,
) -> Slope | None:
    """The slope along a direction; None if no step gives finite terms.

    scale    the size of a slope that matters
    claimed  a slope that is expected: the first step suffices if it agrees
    unit     the step is a fraction of it
    eps      the rounding of the terms
    """
    enough, tried, sigma = TOLERANCE * scale, [], 0.0
    for relative in STEPS if eps <= EPS else COARSE:
        found = slopes(terms, t, direction, relative * unit, eps)
        if found is None:
            continue
        tried = sorted([*tried, found], key=lambda s: -s.h)
        smooth = abs(found.right - found.left) <= enough
        agrees = claimed is not None and abs(found.central - claimed) <= enough / 10
        if smooth and agrees and found.noise <= enough:
            return Slope(found.central, found.central, found.noise, False)
        if len(tried) == 1:
            sigma = NOISE * rounding(terms, t, direction, unit, eps)
        # A step too small to move a term can't tell its rounding: the largest step's counts for all.
        sigma = max(sigma, *(s.noise * s.h for s in tried))
        tried = [s._replace(noise=sigma / s.h) for s in tried]
        best = _best(tried)
        if len(tried) > 2 and sigma and best.error <= enough / 2 and not _maybe_kink(tried, enough):
            return best
    if not tried or (not sigma and _moves(terms, t, direction, unit)):
        return None  # rounding hides every slope
    return _at_kink(tried, enough) or _best(tried)


def _moves(terms: Terms, t: Tensor, direction: Tensor, unit: float) -> bool:
    """Whether large steps change a term that no small step has changed: it saturates and isn't constant."""
    large = (slopes(terms, t, direction, factor * unit) for factor in (1.0, 16.0))
    return any(found is None or found.low or found.high for found in large)


def _best(tried: list[Slopes]) -> Slope:
    """The central difference with the smallest error. tried: from the largest step to the smallest.

    The truncation of one step is its distance from the smaller steps, where their noise doesn't explain it.
    """
    errors = []
    for i, s in enumerate(tried):
        smaller = [abs(s.central - other.central) - other.noise for other in tried[i + 1 :]]
        errors.append(s.noise + max([*smaller, 0.0]))
    last, *larger = tried[::-1]  # nothing smaller was tried: the next larger step bounds it
    errors[-1] += (
        max(abs(last.central - larger[0].central) - last.noise, 0.0) if larger else last.high - last.low
    )
    error, best = min(zip(errors, tried))
    return Slope(best.central, best.central, error, False)


def _maybe_kink(tried: list[Slopes], enough: float) -> bool:
    """Whether the sides still differ at the smallest step that resolves them."""
    resolved = [s for s in tried if s.noise <= enough]
    return bool(resolved) and abs(resolved[-1].right - resolved[-1].left) > enough + 2 * resolved[-1].noise


def _at_kink(tried: list[Slopes], enough: float) -> Slope | None:
    """The slopes of both sides if they differ and a smaller step doesn't bring them together.

    The slopes of a sum's terms count one by one: each term can have any slope between its own two.
    """
    spread = [(s, s.high - s.low) for s in tried if s.noise <= enough]
    for (_, wide), (small, gap) in zip(spread[-2:], spread[-1:]):
        if gap > enough + 4 * small.noise and gap > wide / 2:
            return Slope(small.low, small.high, small.noise, True)
    return None


def rounding(terms: Terms, t: Tensor, direction: Tensor, unit: float, eps: float = EPS) -> float:
    """The standard deviation of the objective's rounding, from steps so small that little else is left.

    Some steps are of a few roundings. In others, numbers that absorb such steps move too. Third differences
    of equidistant values leave out any parabola. Those of independent errors have 20 times their variance.
    Source: Moré and Wild 2011, "Estimating computational noise".
    """
    here, original, found = term_values(terms), t.clone(), 0.0
    for step in (64 * eps * unit, (STEPS if eps <= EPS else COARSE)[0] / 4 * unit):
        values = []
        for k in range(1, 9):  # on one side, because there may be a kink at t
            t.copy_(original).add_(direction, alpha=k * step)
            change = term_values(terms) - here
            values.append(change[change.isfinite()].sum())
        third = torch.stack(values).diff(n=3)
        found = max(found, (third.square().mean() / 20).sqrt().item())
    t.copy_(original)
    return found


def term_values(terms: Terms) -> Tensor:
    """The terms as a new vector in float64."""
    value = terms()
    if not isinstance(value, Tensor):
        return torch.tensor([value], dtype=torch.float64)
    return value.detach().to(torch.float64, copy=True).flatten()


def typical(t: Tensor) -> float:
    """The size of t's entries that aren't 0: their median. 1 if there is none."""
    sizes = t.detach().abs().flatten()
    sizes = sizes[(sizes > 0) & sizes.isfinite()]
    return sizes.median().item() if sizes.numel() else 1.0


def unit(like: Tensor, index: int) -> Tensor:
    """A tensor with 1 at one index (in row order), else 0."""
    direction = torch.zeros_like(like, memory_format=torch.contiguous_format)
    direction.view(-1)[index] = 1
    return direction


def sampled(
    terms: Terms,
    t: Tensor,
    manual: Tensor,
    samples: int,
    min_scale: float = 0.0,
    seed: int = 0,
    at_kinks: bool = True,
) -> Found:
    """Compare manual with finite differences at random entries of t.

    min_scale  the smallest number that differences are relative to
    at_kinks   whether an entry at a kink is judged: in a net, whose later layers mix the slopes, it can't be

    If there is a kink within the step (ReLU at 0, a tie in a pool), the central difference isn't a
    derivative. Most kinks are outside of a smaller step. At a kink that remains, every slope between the
    two one-sided slopes counts as right.
    """
    scale = max(manual.abs().nan_to_num(0, 0, 0).max().item(), min_scale) or 1.0
    size, found = typical(t), Found()
    for i in pick(manual, samples, torch.Generator().manual_seed(seed)):
        claimed, entry = manual.reshape(-1)[i].item(), abs(t.reshape(-1)[i].item())
        if math.isfinite(entry):
            slope = estimate(terms, t, unit(t, i), scale, claimed, max(entry, size))
            found.add(slope, claimed, scale, at_kinks=at_kinks)
    return found


def along(terms: Terms, t: Tensor, manual: Tensor, seed: int = 0) -> Found:
    """Compare manual with finite differences along one random direction that moves all entries.

    It finds a wrong part of a tensor that no sampled entry is in. A direction across kinks is not judged.
    """
    generator, size, found = torch.Generator().manual_seed(seed), typical(t), Found()
    sizes = t.detach().abs().nan_to_num(0, 0, 0).clamp(min=size) / size
    direction = torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t) * sizes
    products = manual * direction
    scale = products.norm().item()
    if scale and math.isfinite(scale):
        slope = estimate(terms, t, direction, scale, products.sum().item(), size)
        if slope and not slope.kink:
            found.add(slope, products.sum().item(), scale, direction.norm().item())
    return found


def pick(manual: Tensor, samples: int, generator) -> list[int]:
    """Random indices. Half of them have a gradient other than 0, because in a pool's gradient few have."""
    order = torch.randperm(manual.numel(), generator=generator)
    nonzero = order[(manual != 0).flatten().cpu()[order]][: (samples + 1) // 2].tolist()
    others = [i for i in order[: 2 * samples].tolist() if i not in nonzero]
    return nonzero + others[: samples - len(nonzero)]


def is_kink(terms: Terms, t: Tensor, manual: Tensor, places: Tensor, seed: int = 0) -> bool:
    """Whether the objective has kinks at these places of t (a mask), and manual is between the slopes.

    At each place by itself, the two one-sided slopes must differ, and manual must be between them.
    That isn't enough: if two inputs of a tie both get dy, each passes, but dy is counted twice. So manual
    must also be between the one-sided slopes along directions that move all entries at once. This is
    valid only if all kinks are convex, so the terms must be weighted with dy ≥ 0.
    """
    if manual.shape != t.shape or not manual.isfinite().all():
        return False
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(t.numel(), generator=generator)
    single = [unit(t, i) for i in order[places.flatten().cpu()[order]][:16].tolist()]
    joint = [torch.ones_like(t)]
    joint += [torch.randint(0, 2, t.shape, generator=generator).to(t) * 2 - 1 for _ in range(8)]
    scale = manual.abs().max().item() or 1.0
    for n, direction in enumerate(single + joint):
        found = slopes(terms, t, direction, STEPS[1] * typical(t))
        if found is None:
            return False
        margin = TOLERANCE * scale * direction.norm().item() + 2 * found.noise
        low, high = sorted((found.left, found.right))
        if n < len(single) and high - low <= margin:
            return False
        if not low - margin <= (manual * direction).sum().item() <= high + margin:
            return False
    return True
