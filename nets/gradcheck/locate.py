"""Random directions over a whole tensor find a wrong gradient; halving the tensor finds its wrong entries."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from nets.gradcheck.differences import EPS, TOLERANCE, Slope, Terms, estimate, term_values, typical

PROBES = 200  # at most, to find the wrong entries of one tensor
NEGLIGIBLE = 1e-6  # a slope that doubles the input and changes the objective by this share counts as 0
SHOWN = 8  # wrong entries that are looked for


class Probe(NamedTuple):
    """A claimed slope along one direction beside the measured one.

    gap    how far the claimed slope is outside of the measured one, or of both sides' at a kink
    error  that the measured slope can have
    scale  the size of a slope along this direction: the root of the sum of the squares of its parts
    alone  whether the direction moves one entry
    """

    direction: Tensor
    claimed: float
    slope: Slope
    gap: float
    scale: float
    alone: bool

    @property
    def judged(self) -> bool:
        """Whether both sides of a kink bound the slope: they do for one entry, not where several mix."""
        return self.alone or not self.slope.kink

    def wrong(self, tolerance: float) -> bool:
        """Whether the gap is more than the measurement's error and a share of the scale."""
        return self.judged and self.gap > self.slope.error + tolerance * self.scale

    @property
    def resolved(self) -> bool:
        """Whether the measurement is accurate enough to tell."""
        return self.slope.error <= 0.05 * self.scale


class Prober:
    """Measures slopes of an objective in one tensor beside those of a claimed gradient."""

    def __init__(self, terms: Terms, t: Tensor, claimed: Tensor, min_scale: float, seed: int, eps=EPS):
        self.terms, self.t, self.eps = terms, t, eps
        self.claimed, self.size = claimed.detach().to(t), typical(t)
        values = term_values(terms)
        least = NEGLIGIBLE * values[values.isfinite()].norm().item() / self.size
        self.min_scale = max(min_scale, least)
        self.generator = torch.Generator().manual_seed(seed)
        sizes = t.detach().abs().nan_to_num(0, 0, 0)
        self.steps = sizes.clamp(min=self.size) / self.size
        self.steps[~t.isfinite()] = 0

    def direction(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Random numbers for the entries from start to stop, in proportion to their sizes; else 0."""
        signs = torch.randn(self.t.shape, generator=self.generator, dtype=torch.float64).to(self.t)
        found = torch.zeros_like(self.t, memory_format=torch.contiguous_format)
        drawn = (torch.copysign(0.5 + signs.abs(), signs) * self.steps).reshape(-1)
        found.view(-1)[start:stop] = drawn[start:stop]
        return found

    def together(self, zeros: bool) -> Tensor:
        """As direction(), but equal entries move alike, so ties remain. zeros: whether zeros move."""
        numbers, group = torch.unique(self.t, return_inverse=True)
        drawn = torch.randn(numbers.shape, generator=self.generator, dtype=torch.float64).to(self.t)
        return drawn[group] * self.steps * (1 if zeros else self.t != 0)

    def along(self, direction: Tensor) -> Probe | None:
        """One probe; None if no slope can be measured."""
        products = (self.claimed * direction).double()
        claimed = products.sum().item()
        scale = max(products.norm().item(), self.min_scale * direction.double().norm().item()) or 1.0
        if not math.isfinite(claimed):
            return None
        slope = estimate(self.terms, self.t, direction, scale, claimed, self.size, self.eps)
        alone = int((direction != 0).sum()) == 1
        return slope and Probe(direction, claimed, slope, slope.gap(claimed), scale, alone)

    def range(self, start: int, stop: int) -> Probe | None:
        """A probe of the entries from start to stop."""
        return self.along(self.direction(start, stop))


def wrong_entries(prober: Prober, tolerance: float) -> list[tuple[int, Probe]]:
    """(index in row order, probe) of up to SHOWN wrong entries, by halving."""
    budget: list[int] = [PROBES]
    found: list[tuple[int, Probe]] = []
    for i, probe in _halve(prober, 0, prober.t.numel(), lambda p: p.wrong(tolerance) or not p.judged, budget):
        found.append((i, probe))
        if len(found) == SHOWN:
            break
    return found


def _halve(
    prober: Prober, start: int, stop: int, is_wrong: Callable[[Probe], bool], budget: list[int]
) -> Iterator[tuple[int, Probe]]:
    if stop <= start or not budget[0]:
        return
    budget[0] -= 1
    probe = prober.range(start, stop)
    if probe is None or not is_wrong(probe):
        return
    if stop - start == 1:
        yield start, probe
        return
    middle = (start + stop) // 2
    yield from _halve(prober, start, middle, is_wrong, budget)
    yield from _halve(prober, middle, stop, is_wrong, budget)


def tolerance_of(dtype: torch.dtype, rounding: float, exact: float) -> float:
    """The share of a slope that a right gradient in dtype may be off.

    rounding  as of measure.tolerance
    exact     the rounding of the forward: a step can be off by it, too
    """
    least = TOLERANCE if exact <= EPS else 50 * TOLERANCE
    return max(least, 4 * rounding) if dtype != torch.float64 else least
