"""Adaptive pooling: as many windows as are asked for, whatever the picture's size."""

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from nets.common.errors import BatchError, Unsupported
from nets.layers.base import Layer, check_pictures, sum_dtype
from nets.layers.registry import register
from nets.layers.windows import pair


@register
class AdaptiveAvgPool2d(Layer):
    """y_ncpq = the mean of x over window (p, q) of oh × ow windows that cover the picture.

    Window p of an axis with n places and o windows starts at ⌊p·n / o⌋ and ends before
    ⌈(p + 1)·n / o⌉, so neighbours may share a place, and where o > n places are repeated. With
    h_p and w_q rows and columns in window (p, q), each x in it takes part as 1/(h_p·w_q):

        dx_ncab = Σ dy_ncpq / (h_p·w_q)  over the windows (p, q) that see place (a, b).

    A window is its rows times its columns, so the sum is taken over columns, then over rows.
    output_size: a number, or (rows, columns). Source: the windows are torch.nn.AdaptiveAvgPool2d's.
    """

    takes_pictures = True
    examples = [((3, 4, 7, 8), dict(output_size=o)) for o in (3, [7, 1], [9, 4])]
    torch_types = (nn.AdaptiveAvgPool2d,)
    torch_calls = {"adaptive_avg_pool2d": lambda x, output_size: nn.AdaptiveAvgPool2d(output_size)}

    def __init__(self, output_size):
        super().__init__()
        self.output_size = pair(output_size, "output_size", 1)

    def forward(self, x: Tensor):
        check_pictures(self, x)
        if 0 in x.shape[2:]:
            raise BatchError(f"AdaptiveAvgPool2d takes no pictures without pixels, {tuple(x.shape)}")
        form = torch.channels_last if x.stride(1) == 1 else torch.contiguous_format
        return adaptive_avg_pool2d(x, self.output_size), (x.shape[2:], form)

    def backward(self, saved, dy: Tensor):
        (h, w), form = saved
        dx = _share_out(_share_out(dy.to(sum_dtype(dy)), 3, w, form), 2, h, form)
        return dx.to(dy.dtype), {}

    def to_torch(self, **_):
        return nn.AdaptiveAvgPool2d(self.output_size)

    @classmethod
    def from_torch(cls, module):
        try:
            return cls(module.output_size)
        except ValueError:  # None, for as many as there are
            raise Unsupported(f"AdaptiveAvgPool2d with output_size={module.output_size}") from None


def _share_out(dy: Tensor, axis: int, n: int, form) -> Tensor:
    """The adjoint of means along one axis: each window's dy, shared out among its places of n."""
    o = dy.shape[axis]
    shape = [*dy.shape[:axis], n, *dy.shape[axis + 1 :]]
    dx = torch.empty(shape, dtype=dy.dtype, device=dy.device, memory_format=form).zero_()
    for p in range(o):
        start, end = p * n // o, -((p + 1) * -n // o)  # ⌊ ⌋ and ⌈ ⌉
        dx.narrow(axis, start, end - start).add_(dy.narrow(axis, p, 1) / (end - start))
    return dx
