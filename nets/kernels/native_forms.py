"""Backend "native": this project's kernels for one layer, or for consecutive layers in one pass.

The kernels are operators in nets/kernels/native: C++ for a CPU, Triton for a GPU.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from nets.kernels import native
from nets.kernels.registry import Form, Target
from nets.layers.activations import GELU, ReLU
from nets.layers.base import Layer, SavesInput, SavesInputFirst
from nets.layers.conv import Conv2d, bias_gradient
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import MaxPool2d
from nets.layers.whiten import Whiten2d
from nets.layers.windows import Windows


def _starts_with_activation(layers: Sequence[Layer]) -> bool:
    """Whether the first of these layers is an activation that the kernels support."""
    if not layers:
        return False
    first = layers[0]
    return type(first) is ReLU or (type(first) is GELU and first.approximate == "none")


def _starts_with_pool(layers: Sequence[Layer]) -> bool:
    """Whether the first of these layers is a 2 × 2 MaxPool2d with stride 2."""
    if not layers:
        return False
    first = layers[0]
    return type(first) is MaxPool2d and first.windows == Windows.of(2, 2, 0)


def _activation_name(layers: Sequence[Layer]) -> str:
    """The kernels' name for the activation after the first layer of a form."""
    if len(layers) < 2:
        return "none"
    return "gelu" if type(layers[1]) is GELU else "relu"


class WhitenAct(Form[Whiten2d], backend="native"):
    """Whiten2d and an activation: y = f(W ∗ x + b). saved is W ∗ x, without the bias."""

    @classmethod
    def count(cls, layers: Sequence[Layer], target: Target):
        fits = type(layers[0]) is Whiten2d and _starts_with_activation(layers[1:])
        return 2 if fits and native.available(target.device, target.dtype) else 0

    def forward(self, x: Tensor):
        self.first.windows.check(self.first, x)
        saved = conv2d(x, self.buffers["weight"].to(x.dtype))
        return self.output(saved), saved

    def output(self, saved):
        bias = self.params["bias"].float()
        zero, one = torch.zeros_like(bias), torch.ones_like(bias)
        return native.act_forward(saved, zero, one, bias, _activation_name(self.layers))

    def backward(self, saved, dy: Tensor, input_grad: bool = True):
        bias, act = self.params["bias"], _activation_name(self.layers)
        dx, db = native.bias_act_backward(saved, dy.to(saved.dtype), bias.float(), act, input_grad)
        dx = conv_transpose2d(dx, self.buffers["weight"].to(dx.dtype)) if input_grad else None
        return dx, {"bias": db.to(bias.dtype)}


class NormAct(SavesInputFirst, Form[BatchNorm2d], backend="native"):
    """BatchNorm2d with or without an activation: y = f(γ·x̂ + β).

    Forward reads x twice: for its mean and variance, and for y. Backward reads x and dy twice: for the sums
    Σg and Σg·x̂ of g = dy·f'(γ·x̂ + β), and for dx = γ·r·(g − Σg/m − x̂·Σg·x̂/m), as in nets/layers/norm.py.
    """

    @classmethod
    def count(cls, layers: Sequence[Layer], target: Target):
        if type(layers[0]) is not BatchNorm2d or not native.available(target.device, target.dtype):
            return 0
        return 2 if _starts_with_activation(layers[1:]) else 1

    def forward(self, x: Tensor):
        mean, var = (t.float() for t in self.first.statistics(x, native.moments))
        saved = x, mean, torch.rsqrt(var + self.first.eps), self.training
        return self.output(saved), saved

    def output(self, saved):
        x, mean, rstd, _ = saved
        return native.act_forward(x, mean, *self._affine(rstd), _activation_name(self.layers))

    def backward(self, saved, dy: Tensor):
        x, mean, rstd, training = saved
        scale, bias = self._affine(rstd)
        act = _activation_name(self.layers)
        dx, sums = native.norm_act_backward(x, dy.to(x.dtype), mean, rstd, scale, bias, act, training)
        grads = {"weight": sums[1] * rstd, "bias": sums[0].clone()}
        return dx, {name: grads[name].to(w.dtype) for name, w in self.params.items()}

    def _affine(self, rstd: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and bias, each (C), of y = f((x − mean)·scale + bias)."""
        gamma, beta = (self.params.get(name) for name in ("weight", "bias"))
        scale = rstd.clone() if gamma is None else rstd * gamma.float()
        return scale, torch.zeros_like(rstd) if beta is None else beta.float()


class ConvPool(SavesInputFirst, Form[Conv2d], backend="native"):
    """A 3 × 3 Conv2d and a 2 × 2 MaxPool2d.

    The convolution's output, the largest tensor of a net, isn't written to memory. Forward compares the four
    results of a window when it has computed them, and backward writes dy to the winner's place when it reads
    it. A row or column in no window isn't computed. saved holds x and the winner of every window, a byte.
    """

    @classmethod
    def count(cls, layers: Sequence[Layer], target: Target):
        first = layers[0]
        fits = type(first) is Conv2d and first.is_same_3x3() and _starts_with_pool(layers[1:])
        return 2 if fits and native.has_convolutions(target.device, target.dtype) else 0

    def forward(self, x: Tensor):
        self.first.windows.check(self.first, x)
        y, winner = native.conv_pool(x, self.params["weight"], self.params.get("bias"))
        return y, (x, winner)

    def backward(self, saved, dy: Tensor, input_grad: bool = True):
        x, winner = saved
        dy = dy.to(x.dtype)
        grads = {"weight": native.conv_pool_weight_gradient(x, dy, winner)}
        if "bias" in self.params:
            grads["bias"] = bias_gradient(dy, self.params["bias"].dtype)
        shape = (self.params["weight"], *x.shape[2:])
        dx = native.conv_pool_input_gradient(dy, winner, *shape) if input_grad else None
        return dx, {name: g.to(self.params[name].dtype) for name, g in grads.items()}


class NativeConv2d(SavesInput, Form[Conv2d], backend="native"):
    """A 3 × 3 Conv2d with fewer than half of the definition's multiplications: see native/winograd.h."""

    @classmethod
    def count(cls, layers: Sequence[Layer], target: Target):
        first = layers[0]
        fits = type(first) is Conv2d and first.is_same_3x3()
        return int(fits and native.has_convolutions(target.device, target.dtype))

    def forward(self, x: Tensor):
        self.first.windows.check(self.first, x)
        return native.conv(x, self.params["weight"], self.params.get("bias")), x

    def backward(self, saved, dy: Tensor, input_grad: bool = True):
        w, dy = self.params["weight"], dy.to(saved.dtype)
        grads = {"weight": native.conv_weight_gradient(saved, dy).to(w.dtype)}
        dx = native.conv_input_gradient(dy, w) if input_grad else None
        if "bias" in self.params:
            grads["bias"] = bias_gradient(dy, w.dtype)
        return dx, grads


class Pool(Form[MaxPool2d], backend="native"):
    """A 2 × 2 MaxPool2d by itself, on a GPU. saved holds the winner of every window, a byte, and x's size."""

    @classmethod
    def count(cls, layers: Sequence[Layer], target: Target):
        if not _starts_with_pool(layers) or not native.available(target.device, target.dtype):
            return 0
        return int(not native.has_convolutions(target.device, target.dtype))

    def forward(self, x: Tensor):
        self.first.windows.check(self.first, x)
        y, winner = native.pool(x)
        return y, (winner, x.shape[2:])

    def backward(self, saved, dy: Tensor):
        winner, (h, w) = saved
        return native.unpool(dy, winner, h, w), {}
