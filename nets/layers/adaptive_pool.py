"""Adaptive pooling: the output size is given, and the windows follow from it and the image's size."""

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from nets.common.errors import BatchError, Unsupported
from nets.layers.base import Layer, check_images, sum_dtype
from nets.layers.checks import check_dy
from nets.layers.registry import register
from nets.layers.windows import IntOrPair, pair


@register
class AdaptiveAvgPool2d(Layer):
    """y_ncpq = the mean of x over window (p, q), where oh × ow windows cover the image.

    Shapes: x (N, C, H, W), y (N, C, oh, ow).
    On an axis with n places and o windows, window p starts at ⌊p·n / o⌋ and ends before ⌈(p + 1)·n / o⌉.
    Neighboring windows may share a place. If o > n, places are repeated. If window (p, q) has h_p rows
    and w_q columns, each x in it has the weight 1/(h_p·w_q):

        dx_ncab = Σ dy_ncpq / (h_p·w_q)  over the windows (p, q) that contain place (a, b).

    The weight is a product of 1/h_p and 1/w_q, so the sum is computed over columns, then over rows.
    output_size: a number, or (rows, columns). ValueError for any other value.
    Source: the windows are those of torch.nn.AdaptiveAvgPool2d.
    """

    takes_images = True
    examples = [((3, 4, 7, 8), dict(output_size=o)) for o in (3, [7, 1], [9, 4])]
    torch_types = (nn.AdaptiveAvgPool2d,)
    torch_calls = {"adaptive_avg_pool2d": lambda x, output_size: nn.AdaptiveAvgPool2d(output_size)}

    def __init__(self, output_size: IntOrPair):
        super().__init__()
        self.output_size = pair(output_size, "output_size", 1)

    def forward(self, x: Tensor):
        check_images(self, x)
        if 0 in x.shape[2:]:
            raise BatchError(f"AdaptiveAvgPool2d takes no images without pixels, {tuple(x.shape)}")
        memory_format = torch.channels_last if x.stride(1) == 1 else torch.contiguous_format
        return adaptive_avg_pool2d(x, self.output_size), (x.shape, memory_format)

    def backward(self, saved, dy: Tensor):
        (n, c, h, w), memory_format = saved
        check_dy(self, dy, (n, c, *self.output_size))
        over_columns = _distribute(dy.to(sum_dtype(dy)), 3, w, memory_format)
        return _distribute(over_columns, 2, h, memory_format).to(dy.dtype), {}

    def to_torch(self, **_):
        return nn.AdaptiveAvgPool2d(self.output_size)

    @classmethod
    def from_torch(cls, module):
        try:
            return cls(module.output_size)
        except ValueError:  # torch allows None: as many windows as the input has places
            raise Unsupported(f"AdaptiveAvgPool2d with output_size={module.output_size}") from None


def _distribute(dy: Tensor, axis: int, n: int, memory_format: torch.memory_format) -> Tensor:
    """The adjoint of the means along one axis: each window's dy is divided equally among its places.

    The axis has one entry per window in dy, and n places in the result.
    """
    o = dy.shape[axis]
    shape = [*dy.shape[:axis], n, *dy.shape[axis + 1 :]]
    dx = torch.empty(shape, dtype=dy.dtype, device=dy.device, memory_format=memory_format).zero_()
    for p in range(o):
        start, end = p * n // o, -((p + 1) * -n // o)  # ⌊ ⌋ and ⌈ ⌉
        dx.narrow(axis, start, end - start).add_(dy.narrow(axis, p, 1) / (end - start))
    return dx
