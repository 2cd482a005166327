"""Pooling: each window becomes one number, its mean or its maximum."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d

from nets.common.errors import BatchError
from nets.layers.base import Layer, check_images
from nets.layers.checks import check_dy
from nets.layers.registry import register, require
from nets.layers.windows import EXAMPLES, IntOrPair, Windows

IMAGES = (3, 4, 7, 8)


class GlobalAvgPoolModule(nn.Module):
    """GlobalAvgPool as a torch.nn module."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


@register
class GlobalAvgPool(Layer):
    """y = the mean over all places, (N, C, H, W) -> (N, C). Each place gets dx = dy / (H·W)."""

    takes_images = True
    examples = [(IMAGES, {})]
    torch_types = (GlobalAvgPoolModule,)

    def forward(self, x: Tensor):
        check_images(self, x)
        return x.mean((2, 3)), x.shape

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved[:2])
        return (dy / saved[2:].numel())[:, :, None, None].expand(saved), {}

    def to_torch(self, **_):
        return GlobalAvgPoolModule()


class GlobalMaxPoolModule(nn.Module):
    """GlobalMaxPool as a torch.nn module."""

    def forward(self, x: Tensor) -> Tensor:
        return max_pool2d(x, x.shape[2:]).flatten(1)


@register
class GlobalMaxPool(Layer):
    """y = the maximum over all places, (N, C, H, W) -> (N, C). The first place with the maximum gets dy."""

    takes_images = True
    examples = [(IMAGES, {})]
    torch_types = (GlobalMaxPoolModule,)

    def forward(self, x: Tensor):
        check_images(self, x)
        y, index = max_pool2d(x, x.shape[2:], return_indices=True)
        return y.flatten(1), (index.flatten(1), x.shape, x.stride(1) == 1)

    def backward(self, saved, dy: Tensor):
        index, (n, c, h, w), channels_last = saved  # index (N, C), into H·W
        check_dy(self, dy, index.shape)
        shape = (n, h * w, c) if channels_last else (n, c, h * w)
        dx = torch.zeros(shape, dtype=dy.dtype, device=dy.device)
        if channels_last:
            return dx.scatter_(1, index[:, None], dy[:, None]).reshape(n, h, w, c).permute(0, 3, 1, 2), {}
        return dx.scatter_(2, index[..., None], dy[..., None]).reshape(n, c, h, w), {}

    def to_torch(self, **_):
        return GlobalMaxPoolModule()


@register
class AvgPool2d(Layer):
    """y_ncpq = Σ_ij x_nc(sp+i)(sq+j) / (kh·kw), with stride s. Padding counts as zeros.

    Shapes: x (N, C, H, W), y (N, C, oh, ow).
    Every input has the weight 1/(kh·kw) in each window that contains it, so its dx is the sum over
    those windows of dy / (kh·kw). It is computed by adding dy through the shifted views (windows.py).
    The stride is the window's size by default. Sizes are a number, or (rows, columns).
    """

    takes_images = True
    examples = [(IMAGES, options) for options in EXAMPLES]
    torch_types = (nn.AvgPool2d,)
    torch_calls = {"avg_pool2d": lambda x, *args, **options: nn.AvgPool2d(*args, **options)}

    def __init__(self, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0):
        super().__init__()
        self.windows = Windows.pool(kernel_size, stride, padding)

    def forward(self, x: Tensor):
        win = self.windows
        win.check(self, x)
        return avg_pool2d(x, win.size, win.stride, win.padding), x.shape

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, (*saved[:2], *self.windows.out_size(saved)))
        part = dy / math.prod(self.windows.size)
        return self.windows.scatter_add(dy, saved, lambda i, j: part), {}

    def extra_repr(self):
        return self.windows.extra_repr()

    def to_torch(self, **_):
        return nn.AvgPool2d(self.windows.size, self.windows.stride, self.windows.padding)

    @classmethod
    def from_torch(cls, module):
        require(module, ceil_mode=False, divisor_override=None)
        if module.padding not in (0, (0, 0)):
            require(module, count_include_pad=True)
        return cls(module.kernel_size, module.stride, module.padding)


def _max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    return nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)


@register
class MaxPool2d(Layer):
    """y_ncpq = the maximum of x in window (p, q). Padding is never the maximum; a NaN always is.

    Shapes: x (N, C, H, W), y (N, C, oh, ow).
    y equals one input of the window, its winner. On a tie, that is the first in row order. The winner gets
    the window's dy, the other inputs get 0. saved holds the winner's index into H·W, in the smallest
    integer type that can hold it. If windows don't overlap, dy is written to the winners' places.
    If they do, an input gets the sum over the windows whose winner it is:

        dx_nc(sp+di)(sq+dj) += dy_ncpq · [winner_ncpq = (sp+di)·W + (sq+dj)]  for each (i, j),

    with stride s and dilation d, one (i, j) after another, so that the order of addition is fixed.
    The stride is the window's size by default. Sizes are a number, or (rows, columns).
    """

    takes_images = True
    examples = [(IMAGES, options) for options in (*EXAMPLES, dict(kernel_size=2, dilation=2))]
    torch_types = (nn.MaxPool2d,)
    torch_calls = {"max_pool2d": _max_pool2d}

    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
        dilation: IntOrPair = 1,
    ):
        super().__init__()
        self.windows = Windows.pool(kernel_size, stride, padding, dilation)

    def check(self, x: Tensor):
        """BatchError unless every window contains a place of x."""
        win = self.windows
        win.check(self, x)
        if any(p and n < d for n, p, d in zip(x.shape[2:], win.padding, win.dilation)):
            # neighbors in a window can lie on the two sides of the image, so that no input is in the window
            raise BatchError(f"MaxPool2d, padded: dilation {win.dilation} is larger than the image")

    def forward(self, x: Tensor):
        self.check(x)
        win = self.windows
        y, winner = max_pool2d(x, win.size, win.stride, win.padding, win.dilation, return_indices=True)
        small = torch.int16 if x.shape[2] * x.shape[3] <= 2**15 else torch.int32
        return y, (winner.to(small), x.shape)

    def backward(self, saved, dy: Tensor):
        winner, shape = saved
        check_dy(self, dy, winner.shape)
        win = self.windows
        if win.disjoint():
            return torch.ops.aten.max_unpool2d(dy, winner.to(torch.int64), shape[2:]), {}
        (sh, sw), (ph, pw), (dh, dw) = win.stride, win.padding, win.dilation
        row = torch.arange(dy.shape[2], device=dy.device)[:, None] * sh - ph
        col = torch.arange(dy.shape[3], device=dy.device) * sw - pw

        def winners_dy(i, j):
            # In the padding, the index of (i, j) can equal that of a place in the image. This does no
            # harm: what is added in the padding is cropped.
            place = (row + i * dh) * shape[3] + (col + j * dw)  # (oh, ow)
            return torch.where(winner == place.to(winner.dtype), dy, 0)

        return win.scatter_add(dy, shape, winners_dy), {}

    def extra_repr(self):
        return self.windows.extra_repr()

    def to_torch(self, **_):
        win = self.windows
        return nn.MaxPool2d(win.size, win.stride, win.padding, win.dilation)

    @classmethod
    def from_torch(cls, module):
        require(module, ceil_mode=False, return_indices=False)
        return cls(module.kernel_size, module.stride, module.padding, module.dilation)
