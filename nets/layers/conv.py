"""Convolution: the same small filter at every place, so its gradient is a sum over places."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from nets.common.errors import Unsupported
from nets.layers.base import Layer, SavesInput, blocks, sum_dtype
from nets.layers.checks import check_dy
from nets.layers.init import init_gaussian, uniform
from nets.layers.registry import register, require
from nets.layers.windows import EXAMPLES, IntOrPair, Windows


def bias_gradient(dy: Tensor, dtype: torch.dtype) -> Tensor:
    """db = Σ dy over images and places, (N, C, H, W) -> (C), of any layer that adds a bias to channels."""
    return dy.sum((0, 2, 3), dtype=sum_dtype(dy)).to(dtype)


class Conv2dModule(nn.Conv2d):
    """nn.Conv2d that converts its weights to the dtype of x."""

    def forward(self, x: Tensor) -> Tensor:
        b = None if self.bias is None else self.bias.to(x.dtype)
        return self._conv_forward(x, self.weight.to(x.dtype), b)


@register
class Conv2d(SavesInput, Layer):
    """y_nopq = b_o + Σ_cij w_ocij · x_nc(sp+di)(sq+dj), with x padded with zeros.

    Shapes: x (N, C, H, W), w (O, C/groups, kh, kw), b (O), y (N, O, oh, ow).
    s is the stride, d the dilation. y is linear in x, in w and in b. Each gradient is the sum of dy times
    the factor that the variable was multiplied with:

        dx_ncab = Σ dy_nopq w_ocij  over all o, i, j, p, q with sp+di = a and sq+dj = b:
                  the adjoint, a transposed convolution of dy with the same w;
        dw_ocij = Σ_npq dy_nopq x_nc(sp+di)(sq+dj): the correlation of x with dy, a product
                  of two matrices, dyᵀ (O, N·oh·ow) and the patches (N·oh·ow, kh·kw·C);
        db_o    = Σ_npq dy_nopq.

    Sizes are a number, or (rows, columns). The weights start uniform in ±1/√(C/groups·kh·kw), or as
    init_dirac, init_std and init_bias say (see init.py). ValueError for sizes that don't fit together.
    Source: Dumoulin and Visin 2016, "A guide to convolution arithmetic".
    """

    takes_images = True
    inferred = {"in_channels": 1}
    examples = [
        ((3, 4, 7, 8), dict(in_channels=4, out_channels=6) | options)
        for options in (
            *EXAMPLES,
            dict(kernel_size=3, dilation=2, groups=2),
            dict(kernel_size=1, bias=False),
        )
    ]
    torch_types = (nn.Conv2d, Conv2dModule)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 1,
        padding: IntOrPair = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
        init_dirac: bool = False,
        init_std: float | None = None,
        init_bias: float | None = None,
    ):
        super().__init__()
        if min(in_channels, out_channels) < 1:
            raise ValueError(f"channels must be at least 1, not {in_channels} -> {out_channels}")
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"{groups} groups do not divide {in_channels} -> {out_channels}")
        self.windows = Windows.of(kernel_size, stride, padding, dilation)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        shape = (out_channels, in_channels // groups, *self.windows.size)
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        self.params["weight"] = uniform(shape, bound)
        if init_dirac:
            self._init_dirac()
        if bias:
            self.params["bias"] = uniform((out_channels,), bound)
        init_gaussian(self.params, init_std, init_bias)

    def _init_dirac(self):
        """Make the first filters copy the input's channels: 1 in the middle, 0 elsewhere.

        Source: Zagoruyko and Komodakis 2017, "DiracNets"; Jordan 2024, airbench94.
        """
        w = self.params["weight"].unflatten(0, (self.groups, -1))  # (groups, outputs, inputs, kh, kw)
        _, o, c, kh, kw = w.shape
        i = torch.arange(min(o, c))
        w[:, :c] = 0
        w[:, i, i, kh // 2, kw // 2] = 1

    def forward(self, x: Tensor):
        win = self.windows
        win.check(self, x)
        w = self.params["weight"].to(x.dtype)
        b = self.params["bias"].to(x.dtype) if "bias" in self.params else None
        y = conv2d(x, w, b, win.stride, win.padding, win.dilation, self.groups)
        return y, x

    def backward(self, saved, dy: Tensor, input_grad: bool = True):
        x, win, weight = saved, self.windows, self.params["weight"]
        check_dy(self, dy, (len(x), len(weight), *win.out_size(x.shape)))
        dw, dx = self._weight_gradient(x, dy), None
        if input_grad:
            left_over = win.left_over(x.shape)  # without it, dx is smaller than x if windows leave a rest
            dx = conv_transpose2d(
                dy, weight.to(dy.dtype), None, win.stride, win.padding, left_over, self.groups, win.dilation
            )
        grads = {"weight": dw.to(weight.dtype)}
        if "bias" in self.params:
            grads["bias"] = bias_gradient(dy, weight.dtype)
        return dx, grads

    def _weight_gradient(self, x: Tensor, dy: Tensor) -> Tensor:
        """dw as a product of dy and the patches of x.

        Patches need kh·kw times the memory of x, so they are made for a block of images at a time.
        """
        o, c, kh, kw = self.params["weight"].shape
        g, (oh, ow) = self.groups, dy.shape[2:]
        dw = torch.zeros((g, o // g, kh * kw * c), dtype=sum_dtype(dy), device=dy.device)
        for xs, dys in blocks(x, dy, sample_size=oh * ow * kh * kw * c * g, block_size=2**22):
            patches = self.windows.patches(xs, (oh, ow)).flatten(3, 4).flatten(0, 2)
            rows = dys.permute(0, 2, 3, 1).flatten(0, 2)  # (n·oh·ow, O); patches (…, kh·kw, C)
            if g == 1:
                dw += (rows.T @ patches.flatten(1))[None]
            else:
                rows, patches = rows.unflatten(1, (g, -1)), patches.unflatten(2, (g, -1))
                dw += torch.einsum("mgo,mkgc->gokc", rows, patches).flatten(2)
        return dw.reshape(o, kh, kw, c).permute(0, 3, 1, 2)

    def is_same_3x3(self) -> bool:
        """Whether it is 3 × 3 with stride 1, padding 1 and one group."""
        return self.windows == Windows.of(3, 1, 1) and self.groups == 1

    def extra_repr(self):
        shown = f"{self.in_channels}, {self.out_channels}, {self.windows.extra_repr()}"
        groups = f", groups={self.groups}" if self.groups > 1 else ""
        return f"{shown}{groups}" + ("" if "bias" in self.params else ", bias=False")

    def to_torch(self, **_):
        win, bias = self.windows, "bias" in self.params
        sizes = (win.size, win.stride, win.padding, win.dilation, self.groups)
        return Conv2dModule(self.in_channels, self.out_channels, *sizes, bias)

    @classmethod
    def from_torch(cls, module):
        require(module, padding_mode="zeros")
        padding = module.padding
        if isinstance(padding, str):  # "same" may need one more place on one side
            left, right, top, bottom = module._reversed_padding_repeated_twice
            if (left, top) != (right, bottom):
                raise Unsupported(f"Conv2d with padding={padding!r} that isn't the same on both sides")
            padding = (top, left)
        sizes = (module.kernel_size, module.stride, padding, module.dilation, module.groups)
        return cls(module.in_channels, module.out_channels, *sizes, module.bias is not None)
