"""Finite differences: gradients computed from the forward alone, and how they detect kinks."""

from collections.abc import Callable

import torch
from torch import Tensor

# A central difference in float64 with step h has an error of about h² plus 2.2e-16 / h.
TOLERANCE, STEPS = 1e-4, (1e-5, 1e-6, 1e-7)
Objective = Callable[[], float]


def slopes(value: Objective, t: Tensor, direction: Tensor, h: float) -> tuple[float, float]:
    """The one-sided slopes of value() at t along a direction: (left, right). t is restored."""
    at_t, original = value(), t.clone()
    t.add_(direction, alpha=h)
    right = (value() - at_t) / h
    t.copy_(original).sub_(direction, alpha=h)
    left = (at_t - value()) / h
    t.copy_(original)
    return left, right


def unit(like: Tensor, index: int) -> Tensor:
    """A tensor with 1 at one index (in row order), else 0."""
    direction = torch.zeros_like(like, memory_format=torch.contiguous_format)
    direction.view(-1)[index] = 1
    return direction


def sampled(
    value: Objective, t: Tensor, manual: Tensor, samples: int, min_scale: float = 0.0, seed: int = 0
) -> tuple[float, int]:
    """(largest relative difference between manual and finite differences, kinks), over random entries of t.

    value      () -> the objective at the current values of t
    min_scale  the smallest number to divide by

    If there is a kink within the step (ReLU at 0, a tie in a pool), the central difference isn't a
    derivative. Most kinks are outside of a smaller step. At a kink that remains, every slope between the
    two one-sided slopes counts as right.
    """
    scale = max(manual.abs().max().item(), min_scale) or 1.0
    generator = torch.Generator().manual_seed(seed)
    worst, kinks = 0.0, 0
    for i in _pick(manual, samples, generator):
        direction, found = unit(t, i), []
        claimed = manual.reshape(-1)[i].item()
        for h in STEPS:
            left, right = slopes(value, t, direction, h)
            kink = abs(left - right) > TOLERANCE * scale
            low, high = sorted((left, right)) if kink else [(left + right) / 2] * 2
            found.append((max(low - claimed, claimed - high, 0.0) / scale, kink))
            if found[-1][0] <= TOLERANCE / 10 and not kink:
                break
        relative, kink = min(found)
        worst, kinks = max(worst, relative), kinks + kink
    return worst, kinks


def _pick(manual: Tensor, samples: int, generator) -> list[int]:
    """Random indices. Half of them have a gradient other than 0, because in a pool's gradient few have."""
    order = torch.randperm(manual.numel(), generator=generator)
    nonzero = order[(manual != 0).flatten().cpu()[order]][: (samples + 1) // 2].tolist()
    others = [i for i in order[: 2 * samples].tolist() if i not in nonzero]
    return nonzero + others[: samples - len(nonzero)]


def is_kink(value: Objective, t: Tensor, manual: Tensor, places: Tensor, seed: int = 0) -> bool:
    """Whether value() has kinks at these places of t (a mask), and manual is between the one-sided slopes.

    At each place by itself, the two one-sided slopes must differ, and manual must be between them.
    That isn't enough: if two inputs of a tie both get dy, each passes, but dy is counted twice. So manual
    must also be between the one-sided slopes along directions that move all entries at once. This is
    valid only if all kinks are convex, so value() must weight its outputs with dy ≥ 0.
    """
    if manual.shape != t.shape or not manual.isfinite().all():
        return False
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(t.numel(), generator=generator)
    single = [unit(t, i) for i in order[places.flatten().cpu()[order]][:16].tolist()]
    joint = [torch.ones_like(t)]
    joint += [torch.randint(0, 2, t.shape, generator=generator).to(t) * 2 - 1 for _ in range(8)]
    scale = manual.abs().max().item() or 1.0
    noise = 16 * torch.finfo(t.dtype).eps * abs(value()) / STEPS[1]
    for n, direction in enumerate(single + joint):
        left, right = slopes(value, t, direction, STEPS[1])
        margin = TOLERANCE * scale * direction.norm().item() + noise
        low, high = sorted((left, right))
        if n < len(single) and high - low <= margin:
            return False
        if not low - margin <= (manual * direction).sum().item() <= high + margin:
            return False
    return True
