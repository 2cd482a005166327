"""Kernels of this project, for one layer or for consecutive layers in one pass: backend "native".

They run on a CPU (C++) and on a GPU (Triton); nets/kernels/native has them as operators.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from nets.kernels import native
from nets.kernels.registry import Form, Target
from nets.layers.activations import GELU, ReLU
from nets.layers.base import Layer, SavesInput, sum_dtype
from nets.layers.conv import Conv2d
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import MaxPool2d
from nets.layers.whiten import Whiten2d
from nets.layers.windows import Windows


def _is_act(layers) -> bool:
    """Do these layers begin with an activation that the kernels have?"""
    if not layers:
        return False
    return type(layers[0]) is ReLU or (type(layers[0]) is GELU and layers[0].approximate == "none")


def _is_pool(layers) -> bool:
    return bool(layers) and type(layers[0]) is MaxPool2d and layers[0].windows == Windows.of(2, 2, 0)


def _act_name(layers) -> str:
    """The activation after a form's first layer, as the kernels call it."""
    return {GELU: "gelu", ReLU: "relu"}[type(layers[1])] if len(layers) > 1 else "none"


class WhitenAct(Form, backend="native"):
    """Whiten2d and an activation: y = f(W ∗ x + b). Saved is W ∗ x, without the bias."""

    @classmethod
    def count(cls, layers, target: Target):
        fits = type(layers[0]) is Whiten2d and _is_act(layers[1:])
        return 2 if fits and native.serve(target.device, target.dtype) else 0

    def forward(self, x: Tensor):
        self.layers[0].windows.check(self.layers[0], x)  # type: ignore[attr-defined]
        saved = conv2d(x, self.buffers["weight"].to(x.dtype))
        return self.output(saved), saved

    def output(self, saved):
        bias = self.params["bias"]
        zero, one = torch.zeros_like(bias), torch.ones_like(bias)
        return native.act_forward(saved, zero, one, bias, _act_name(self.layers))

    def backward(self, saved, dy: Tensor, input_grad: bool = True):
        dx, db = native.bias_act_backward(saved, dy, self.params["bias"], _act_name(self.layers), input_grad)
        dx = conv_transpose2d(dx, self.buffers["weight"].to(dy.dtype)) if input_grad else None
        return dx, {"bias": db}


class NormAct(Form, backend="native"):
    """BatchNorm2d, with or without an activation: y = f(γ·x̂ + β).

    Forward passes over x twice, for its moments and for y. Backward passes twice, for g = dy·f'(γ·x̂ + β)
    with the sums Σg and Σg·x̂, and for dx = γ·r·(g − Σg/m − x̂·Σg·x̂/m), as in nets/layers/norm.py.
    """

    @classmethod
    def count(cls, layers, target: Target):
        if type(layers[0]) is not BatchNorm2d or not native.serve(target.device, target.dtype):
            return 0
        return 2 if _is_act(layers[1:]) else 1

    def forward(self, x: Tensor):
        norm: BatchNorm2d = self.layers[0]  # type: ignore[assignment]
        mean, var = norm.statistics(x, native.moments)
        saved = x, mean, torch.rsqrt(var + norm.eps), self.training
        return self.output(saved), saved

    def output(self, saved):
        x, mean, rstd, _ = saved
        return native.act_forward(x, mean, *self._affine(rstd), _act_name(self.layers))

    def drop_input(self, saved):
        return saved[1:]

    def add_input(self, saved, x: Tensor):
        return (x, *saved)

    def backward(self, saved, dy: Tensor):
        x, mean, rstd, training = saved
        scale, bias = self._affine(rstd)
        act = _act_name(self.layers)
        dx, sums = native.norm_act_backward(x, dy, mean, rstd, scale, bias, act, training)
        grads = {"weight": sums[1] * rstd, "bias": sums[0].clone()}
        return dx, {name: grads[name] for name in self.params}

    def _affine(self, rstd: Tensor):
        gamma, beta = (self.params.get(name) for name in ("weight", "bias"))
        scale = rstd.clone() if gamma is None else rstd * gamma
        return scale, torch.zeros_like(rstd) if beta is None else beta


class ConvPool(Form, backend="native"):
    """A 3 × 3 Conv2d and a 2 × 2 MaxPool2d.

    The convolution's output, the largest tensor of all, is never written: a window's four results are
    compared as they are made, and backward puts dy at its winner's place as it reads it. A row or column
    that no window reaches isn't computed. Saved are x and, for every window, which result was the largest.
    """

    @classmethod
    def count(cls, layers, target: Target):
        first = layers[0]
        fits = type(first) is Conv2d and first.is_same_3x3() and _is_pool(layers[1:])
        return 2 if fits and native.convolves(target.device, target.dtype) else 0

    def forward(self, x: Tensor):
        self.layers[0].windows.check(self.layers[0], x)  # type: ignore[attr-defined]
        y, winner = native.conv_pool(x, self.params["weight"], self.params.get("bias"))
        return y, (x, winner)

    def drop_input(self, saved):
        return saved[1]

    def add_input(self, saved, x: Tensor):
        return x, saved

    def backward(self, saved, dy: Tensor, input_grad: bool = True):
        x, winner = saved
        grads = {"weight": native.conv_pool_weight_gradient(x, dy, winner)}
        if "bias" in self.params:
            grads["bias"] = dy.sum((0, 2, 3), dtype=torch.float32)
        shape = (self.params["weight"], *x.shape[2:])
        dx = native.conv_pool_input_gradient(dy, winner, *shape) if input_grad else None
        return dx, {name: g.to(self.params[name].dtype) for name, g in grads.items()}


class NativeConv2d(SavesInput, Form, backend="native"):
    """A 3 × 3 Conv2d with less than half of the definition's multiplications: see native/winograd.h."""

    @classmethod
    def count(cls, layers, target: Target):
        fits = type(layers[0]) is Conv2d and layers[0].is_same_3x3()
        return int(fits and native.convolves(target.device, target.dtype))

    def forward(self, x: Tensor):
        self.layers[0].windows.check(self.layers[0], x)  # type: ignore[attr-defined]
        return native.conv(x, self.params["weight"], self.params.get("bias")), x

    def backward(self, saved, dy: Tensor, input_grad: bool = True):
        w = self.params["weight"]
        grads = {"weight": native.conv_weight_gradient(saved, dy).to(w.dtype)}
        dx = native.conv_input_gradient(dy, w) if input_grad else None
        if "bias" in self.params:
            grads["bias"] = dy.sum((0, 2, 3), dtype=sum_dtype(dy)).to(w.dtype)
        return dx, grads


class Pool(Form, backend="native"):
    """A 2 × 2 MaxPool2d by itself, on a GPU. Saved is, for every window, which was the largest: a byte."""

    @classmethod
    def count(cls, layers, target: Target):
        served = native.serve(target.device, target.dtype)
        return int(_is_pool(layers) and served and not native.convolves(target.device, target.dtype))

    def forward(self, x: Tensor):
        self.layers[0].windows.check(self.layers[0], x)  # type: ignore[attr-defined]
        y, winner = native.pool(x)
        return y, (winner, x.shape[2:])

    def backward(self, saved, dy: Tensor):
        winner, (h, w) = saved
        return native.unpool(dy, winner, h, w), {}


def replaced(layer: Layer) -> tuple[Layer, ...]:
    """The layers that a form stands for; a layer stands for itself."""
    return layer.layers if isinstance(layer, Form) else (layer,)
