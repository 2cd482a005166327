"""Inputs beside those that are given: kinds that find what the usual ones don't.

Every kind but the zeros keeps the signs, so a function of positive numbers gets positive ones.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nets.gradcheck.differences import typical


def _zeros(t: Tensor, generator: torch.Generator) -> Tensor:
    return torch.where(torch.rand(t.shape, generator=generator).to(t.device) < 0.3, 0, t)


def _ties(t: Tensor, generator: torch.Generator) -> Tensor:
    """Two sizes only, so that many entries are equal."""
    size = typical(t)
    return t.sign() * torch.where(t.abs() > 1.5 * size, 2 * size, size).to(t.dtype)


def _heavy(t: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.device)
    return (t * (1.5 * drawn).exp()).to(t.dtype)


KINDS = {
    "ties": _ties,
    "zeros": _zeros,
    "heavy tails": _heavy,
    "3 times": lambda t, _: t * 3,
    "1e3 times": lambda t, _: t * 1e3,
    "1e-3 times": lambda t, _: t * 1e-3,
}

KEEP_SCALE = ("ties", "zeros")  # a coarse difference can judge these


def others(values: Sequence, where: list[int], seed: int) -> Iterator[tuple[str, list]]:
    """(kind, leaves) for each kind of inputs, in which the leaves of these numbers are changed."""
    for kind, change in KINDS.items():
        generator = torch.Generator().manual_seed(seed)
        changed = {i: change(values[i], generator) for i in where}
        yield kind, [changed.get(i, v) for i, v in enumerate(values)]
