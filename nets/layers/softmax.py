"""Softmax and its logarithm along one axis: numbers become probabilities."""

from functools import partial

import torch
from torch import Tensor, nn

from nets.common.errors import BatchError, Unsupported
from nets.layers.base import Layer, sum_dtype
from nets.layers.checks import check_dy
from nets.layers.registry import register


def _call(kind, x, dim=None, _stacklevel=None, dtype=None):
    """The module for F.softmax(x, dim) or x.softmax(dim). Unsupported with a dtype, or without an axis."""
    if dim is None or dtype is not None:
        raise Unsupported(f"{kind.__name__.lower()} with dim={dim}, dtype={dtype}")
    return kind(dim)


class _AlongAxis(Layer):
    """What both have: an axis, which is checked."""

    examples = [((5, 6), dict(dim=-1)), ((3, 4, 7, 8), dict(dim=1))]

    def __init__(self, dim: int = -1):
        super().__init__()
        self.dim = dim

    def check(self, x: Tensor):
        """BatchError unless x has the axis."""
        if not -x.dim() <= self.dim < x.dim():
            raise BatchError(f"{type(self).__name__} along axis {self.dim} takes no {tuple(x.shape)}")

    def laid_out(self, y: Tensor, x: Tensor) -> Tensor:
        """y in channels_last if x is: torch gives it contiguous."""
        channels_last = x.dim() == 4 and x.stride(1) == 1
        return y.contiguous(memory_format=torch.channels_last) if channels_last else y

    @classmethod
    def from_torch(cls, module):
        if module.dim is None:
            raise Unsupported(f"{type(module).__name__} with dim=None")
        return cls(module.dim)


@register
class Softmax(_AlongAxis):
    """y_i = e^(x_i) / Σ_j e^(x_j) along axis dim, so ∂y_i/∂x_j = y_i·(δ_ij − y_j) and

    dx_j = Σ_i dy_i·y_i·(δ_ij − y_j) = y_j·(dy_j − Σ_i dy_i·y_i).
    Source: Bridle 1990, "Probabilistic interpretation of feedforward classification network outputs".
    """

    torch_types = (nn.Softmax,)
    torch_calls = {"softmax": partial(_call, nn.Softmax)}

    def forward(self, x: Tensor):
        self.check(x)
        y = self.laid_out(torch.softmax(x, self.dim), x)
        return y, y

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved.shape)
        y = saved.to(sum_dtype(saved))
        return (y * (dy - (dy * y).sum(self.dim, True))).to(dy.dtype), {}

    def to_torch(self, **_):
        return nn.Softmax(self.dim)


@register
class LogSoftmax(_AlongAxis):
    """y_i = x_i − log Σ_j e^(x_j) along axis dim, so ∂y_i/∂x_j = δ_ij − e^(y_j).

    By the chain rule dx = dy − e^y·Σ_i dy_i.
    """

    torch_types = (nn.LogSoftmax,)
    torch_calls = {"log_softmax": partial(_call, nn.LogSoftmax)}

    def forward(self, x: Tensor):
        self.check(x)
        y = self.laid_out(torch.log_softmax(x, self.dim), x)
        return y, y

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved.shape)
        y, wide = saved.to(sum_dtype(saved)), dy.to(sum_dtype(dy))
        return (wide - torch.exp(y) * wide.sum(self.dim, True)).to(dy.dtype), {}

    def to_torch(self, **_):
        return nn.LogSoftmax(self.dim)
