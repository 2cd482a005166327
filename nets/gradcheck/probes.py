"""A gradient against finite differences: at sampled entries, along directions, and at kinks."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nets.gradcheck.differences import STEPS, TOLERANCE, Slope, Terms, estimate, slopes, typical, unit


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
