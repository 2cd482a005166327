"""Finite differences: what a gradient means, asked of the forward alone, and where it has no say."""

import torch
from torch import Tensor

# A central difference in float64 with step h is off by about h² and by 2.2e-16 / h.
TOLERANCE, STEPS = 1e-4, (1e-5, 1e-6, 1e-7)


def slopes(value, t: Tensor, direction: Tensor, h: float) -> tuple[float, float]:
    """The slope of value() on the left and on the right of t along a direction; t is put back."""
    here, middle = value(), t.clone()
    t.add_(direction, alpha=h)
    right = (value() - here) / h
    t.copy_(middle).sub_(direction, alpha=h)
    left = (here - value()) / h
    t.copy_(middle)
    return left, right


def unit(like: Tensor, index: int) -> Tensor:
    """1 at one place (counted in row order), else 0."""
    direction = torch.zeros_like(like, memory_format=torch.contiguous_format)
    direction.view(-1)[index] = 1
    return direction


def sampled(value, t: Tensor, manual: Tensor, samples: int, least: float = 0.0, seed: int = 0):
    """(largest relative gap between manual and differences, kinks met), over sampled entries of t.

    value  () -> float, the objective at t's present values
    least  the least number to divide by

    At a kink within the step (ReLU at 0, a tie in a pool) the central difference is no
    derivative. A smaller step leaves most kinks behind. At one that stays, any slope between
    those on its two sides is right.
    """
    scale = max(manual.abs().max().item(), least) or 1.0
    generator = torch.Generator().manual_seed(seed)
    worst, kinks = 0.0, 0
    for i in _pick(manual, samples, generator):
        direction, found = unit(t, i), []
        claimed = manual.reshape(-1)[i].item()
        for h in STEPS:
            left, right = slopes(value, t, direction, h)
            corner = abs(left - right) > TOLERANCE * scale
            low, high = sorted((left, right)) if corner else [(left + right) / 2] * 2
            found.append((max(low - claimed, claimed - high, 0.0) / scale, corner))
            if found[-1][0] <= TOLERANCE / 10 and not corner:
                break
        gap, corner = min(found)
        worst, kinks = max(worst, gap), kinks + corner
    return worst, kinks


def _pick(manual: Tensor, samples: int, generator) -> list[int]:
    """Places at random, half of them among those that have a gradient: a pool's has few."""
    order = torch.randperm(manual.numel(), generator=generator)
    live = order[(manual != 0).flatten().cpu()[order]][: (samples + 1) // 2].tolist()
    return live + [i for i in order[: 2 * samples].tolist() if i not in live][: samples - len(live)]


def is_kink(value, t: Tensor, manual: Tensor, places: Tensor, seed: int = 0) -> bool:
    """Has value() corners at these places of t (a mask), and is manual a slope between their sides?

    Taken alone, each place has to have two slopes, left and right, with manual between them.
    Two winners of one tie would pass that, though they count it twice. So manual also has to
    lie between the slopes along directions that move everything at once. That is only a rule
    for corners that all point the same way: let value() weigh its outputs by no negative dy.
    """
    if manual.shape != t.shape or not manual.isfinite().all():
        return False
    generator = torch.Generator().manual_seed(seed)
    picked = torch.randperm(t.numel(), generator=generator)
    alone = [unit(t, i) for i in picked[places.flatten().cpu()[picked]][:16].tolist()]
    together = [torch.ones_like(t)]
    together += [torch.randint(0, 2, t.shape, generator=generator).to(t) * 2 - 1 for _ in range(8)]
    scale = manual.abs().max().item() or 1.0
    noise = 16 * torch.finfo(t.dtype).eps * abs(value()) / STEPS[1]
    for n, direction in enumerate(alone + together):
        left, right = slopes(value, t, direction, STEPS[1])
        slack = TOLERANCE * scale * direction.norm().item() + noise
        low, high = sorted((left, right))
        if n < len(alone) and high - low <= slack:
            return False
        if not low - slack <= (manual * direction).sum().item() <= high + slack:
            return False
    return True
