"""Convolution: the same small weights at every place, so their gradient is a sum over places."""

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from nets.kernels import native
from nets.layers.base import Layer, blocks, check_kernel, sum_dtype, uniform
from nets.layers.init import restart
from nets.layers.windows import Windows


class Conv2d(Layer):
    """y_nopq = b_o + Σ_cij w_ocij · x_nc(sp+di)(sq+dj), with x padded by zeros.

    Shapes: x (N, C, H, W), w (O, C/groups, kh, kw), b (O), y (N, O, oh, ow).
    y is linear in x, in w and in b. Each gradient is the sum of dy times whatever the thing
    was multiplied with:

        dx_ncab = Σ dy_nopq w_ocij  over all o, i, j, p, q with sp+di = a and sq+dj = b:
                  the adjoint, a transposed convolution of dy with the same w;
        dw_ocij = Σ_npq dy_nopq x_nc(sp+di)(sq+dj): the correlation of x with dy, a product
                  of two matrices, dyᵀ (O, N·oh·ow) and the patches (N·oh·ow, kh·kw·C);
        db_o    = Σ_npq dy_nopq.

    kernel = "reference" is that, "torch" the library's own backward (aten.convolution_backward)
    for the same formulas. "native" takes all three products from nets/native/conv.cpp where it
    can: 3 × 3, stride 1, padding 1, with less than half of the multiplications.
    Source: Dumoulin and Visin 2016, "A guide to convolution arithmetic".
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups: int = 1,
        bias: bool = True,
        dirac: bool = False,
        std: float | None = None,
        bias_start: float | None = None,
        kernel: str = "reference",
    ):
        super().__init__()
        if min(in_channels, out_channels) < 1:
            raise ValueError(f"channels must be at least 1, not {in_channels} -> {out_channels}")
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"{groups} groups do not divide {in_channels} -> {out_channels}")
        self.windows = Windows.of(kernel_size, stride, padding, dilation)
        self.groups = groups
        self.kernel = check_kernel(kernel)
        shape = (out_channels, in_channels // groups, *self.windows.size)
        spread = 1 / math.sqrt(math.prod(shape[1:]))
        self.params["weight"] = uniform(shape, spread)
        if dirac:
            self._pass_through()
        if bias:
            self.params["bias"] = uniform((out_channels,), spread)
        restart(self.params, std, bias_start)

    def _pass_through(self):
        """Start the first filters as copies of the input's channels: 1 in the middle, else 0.

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
        if self.in_native(x):
            return native.conv(x, self.params["weight"], self.params.get("bias")), x
        w = self.params["weight"].to(x.dtype)
        b = self.params["bias"].to(x.dtype) if "bias" in self.params else None
        y = conv2d(x, w, b, win.stride, win.padding, win.dilation, self.groups)
        return y, x

    def backward(self, saved, dy: Tensor):
        x, win, weight = saved, self.windows, self.params["weight"]
        if self.in_native(x):
            dw = native.conv_weight_gradient(x, dy)
            dx = native.conv_input_gradient(dy, weight) if self.input_grad else None
        elif self.kernel != "reference":
            dx, dw = self.vendor_gradients(x, dy, weight.to(dy.dtype))
        else:
            dw, dx = self._weight_gradient(x, dy), None
            if self.input_grad:
                left = win.left_over(x.shape)  # else odd sizes come back too small
                dx = conv_transpose2d(
                    dy, weight.to(dy.dtype), None, win.stride, win.padding, left, self.groups, win.dilation
                )
        grads = {"weight": dw.to(weight.dtype)}
        if "bias" in self.params:
            grads["bias"] = dy.sum((0, 2, 3), dtype=sum_dtype(dy)).to(weight.dtype)
        return dx, grads

    def _weight_gradient(self, x: Tensor, dy: Tensor) -> Tensor:
        """dw by gathered patches, a block of pictures at a time, as patches are kh·kw times as many."""
        o, c, kh, kw = self.params["weight"].shape
        g, (oh, ow) = self.groups, dy.shape[2:]
        dw = torch.zeros((g, o // g, kh * kw * c), dtype=sum_dtype(dy), device=dy.device)
        for xs, dys in blocks(x, dy, each=oh * ow * kh * kw * c * g, most=2**22):
            patches = self.windows.patches(xs, (oh, ow)).flatten(3, 4).flatten(0, 2)
            rows = dys.permute(0, 2, 3, 1).flatten(0, 2)  # (n·oh·ow, O); patches (…, kh·kw, C)
            if g == 1:
                dw += (rows.T @ patches.flatten(1))[None]
            else:
                rows, patches = rows.unflatten(1, (g, -1)), patches.unflatten(2, (g, -1))
                dw += torch.einsum("mgo,mkgc->gokc", rows, patches).flatten(2)
        return dw.reshape(o, kh, kw, c).permute(0, 3, 1, 2)

    def in_native(self, x: Tensor) -> bool:
        """Is it nets/native that does this convolution?"""
        return self.kernel == "native" and self.is_same_3x3() and native.convolves(x.device, x.dtype)

    def is_same_3x3(self) -> bool:
        """Is it of 3 × 3, giving pictures of the same size, in one group?"""
        return self.windows == Windows.of(3, 1, 1) and self.groups == 1

    def vendor_gradients(self, x: Tensor, dy: Tensor, w: Tensor):
        """dx, None unless it is wanted, and dw, by the library's kernel."""
        win, wanted = self.windows, [self.input_grad, True, False]
        dx, dw, _ = torch.ops.aten.convolution_backward(
            dy, x, w, None, win.stride, win.padding, win.dilation, False, [0, 0], self.groups, wanted
        )
        return dx, dw
