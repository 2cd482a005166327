"""Reductions over any axes: mean and sum."""

import math

import torch
from torch import Tensor, nn

from nets.common.errors import BatchError, Unsupported
from nets.layers.base import Layer
from nets.layers.checks import check_dy
from nets.layers.pool import GlobalAvgPoolModule
from nets.layers.registry import register

Axes = int | tuple[int, ...]


def axes_of(dim) -> tuple[int, ...]:
    """Axes as a tuple. ValueError unless they are one or more whole numbers."""
    dims = tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    if not dims or not all(type(d) is int for d in dims):
        raise ValueError(f"dim is a whole number or several, not {dim}")
    return dims


class MeanModule(nn.Module):
    """Mean as a torch.nn module."""

    def __init__(self, dim: Axes, keepdim: bool = False):
        super().__init__()
        self.dim, self.keepdim = axes_of(dim), keepdim

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.dim, self.keepdim)


class SumModule(nn.Module):
    """Sum as a torch.nn module."""

    def __init__(self, dim: Axes, keepdim: bool = False):
        super().__init__()
        self.dim, self.keepdim = axes_of(dim), keepdim

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(self.dim, self.keepdim)


def _mean(x, dim=None, keepdim=False):
    """The module for a mean: GlobalAvgPool's over rows and columns. Unsupported for one over all numbers."""
    if dim is None:
        raise Unsupported("mean over everything")
    if not keepdim and sorted(axes_of(dim)) in ([2, 3], [-2, -1]):
        return GlobalAvgPoolModule()
    return MeanModule(dim, keepdim)


def _sum(x, dim=None, keepdim=False):
    if dim is None or isinstance(x, (list, tuple)):
        raise Unsupported("sum over everything")
    return SumModule(dim, keepdim)


class Reduction(Layer):
    """The mean or sum over some axes. Its gradient is the same for all numbers that became one."""

    keeps_samples = False

    def __init__(self, dim: Axes, keepdim: bool = False):
        super().__init__()
        self.dim, self.keepdim = axes_of(dim), keepdim

    def _check(self, x: Tensor):
        if any(not -x.dim() <= d < x.dim() for d in self.dim):
            raise BatchError(f"{type(self).__name__} over {self.dim} takes no {tuple(x.shape)}")

    def _spread(self, dy: Tensor, shape: torch.Size) -> Tensor:
        """dy with an axis of one for each that was reduced, repeated to this shape."""
        reduced = {d % len(shape) for d in self.dim}
        left = [1 if i in reduced else n for i, n in enumerate(shape) if self.keepdim or i not in reduced]
        check_dy(self, dy, tuple(left))
        if not self.keepdim:
            for d in sorted(reduced):
                dy = dy.unsqueeze(d)
        return dy.expand(shape)

    @classmethod
    def from_torch(cls, module):
        return cls(module.dim, module.keepdim)


@register
class Mean(Reduction):
    """y = the mean over the axes `dim`. Each of the m numbers behind an entry of y gets dx = dy / m."""

    examples = [((3, 4, 7, 8), dict(dim=(2, 3), keepdim=True)), ((3, 5, 6), dict(dim=1))]
    torch_types = (MeanModule,)
    torch_calls = {"mean": _mean}

    def forward(self, x: Tensor):
        self._check(x)
        return x.mean(self.dim, self.keepdim), x.shape

    def backward(self, saved, dy: Tensor):
        m = math.prod(saved[d] for d in self.dim)
        return self._spread(dy, saved) / m, {}

    def to_torch(self, **_):
        return MeanModule(self.dim, self.keepdim)


@register
class Sum(Reduction):
    """y = the sum over the axes `dim`. Each of the numbers behind an entry of y gets dx = dy."""

    examples = [((3, 5, 6), dict(dim=1)), ((3, 4, 7, 8), dict(dim=(-1, 1), keepdim=True))]
    torch_types = (SumModule,)
    torch_calls = {"sum": _sum}

    def forward(self, x: Tensor):
        self._check(x)
        return x.sum(self.dim, self.keepdim), x.shape

    def backward(self, saved, dy: Tensor):
        return self._spread(dy, saved), {}

    def to_torch(self, **_):
        return SumModule(self.dim, self.keepdim)
