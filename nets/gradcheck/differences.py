"""Finite differences: slopes computed from the forward alone, with the error that they can have.

A function of a tensor t is given as () -> terms: a tensor whose sum is the objective, at the current values
of t. Terms are subtracted before they are added, so a large term that doesn't change costs no digits.

The error of a central difference with step h has two parts. The truncation falls as h². The noise is the
rounding of the terms divided by h. `estimate` tries steps from large to small, and keeps the slope with the
smallest error. If this error isn't small, the slope is not resolvable.
"""

from collections.abc import Callable
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
