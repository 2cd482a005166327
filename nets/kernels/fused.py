"""Stages: layers that stand behind one another, done together in as few passes as there can be.

A stage obeys the contract and has the very parameters of the layers that it stands for, under the
same names; what it gives is theirs but for rounding. Its kernels are those of nets/native, on a CPU
and on a GPU.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from nets.kernels import native
from nets.layers.activations import GELU, ReLU
from nets.layers.base import Layer, Net
from nets.layers.containers import Residual, Sequential
from nets.layers.conv import Conv2d
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import MaxPool2d
from nets.layers.whiten import Whiten2d
from nets.layers.windows import Windows


class Stage(Layer):
    """Layers as one. The first may have parameters, the others have none: gradients are the first's."""

    def __init__(self, *layers: Layer):
        self.layers = layers
        self.params, self.buffers = layers[0].params, layers[0].buffers

    @property
    def training(self) -> bool:
        return self.layers[0].training

    @training.setter
    def training(self, mode: bool):
        for layer in self.layers:
            layer.training = mode

    @property
    def input_grad(self) -> bool:
        return self.layers[0].input_grad

    @input_grad.setter
    def input_grad(self, wanted: bool):
        self.layers[0].input_grad = wanted


class WhitenAct(Stage):
    """Whiten2d with an activation behind it: y = f(W ∗ x + b). Saved is W ∗ x, without the bias."""

    def forward(self, x: Tensor):
        whiten = self.layers[0]
        whiten.windows.check(whiten, x)
        saved = conv2d(x, self.buffers["weight"].to(x.dtype))
        return self.output(saved), saved

    def output(self, saved):
        bias = self.params["bias"]
        return native.act_forward(saved, torch.zeros_like(bias), torch.ones_like(bias), bias, _name(self))

    def backward(self, saved, dy: Tensor):
        dx, db = native.bias_act_backward(saved, dy, self.params["bias"], _name(self), self.input_grad)
        dx = conv_transpose2d(dx, self.buffers["weight"].to(dy.dtype)) if self.input_grad else None
        return dx, {"bias": db}


class NormAct(Stage):
    """BatchNorm2d, with or without an activation behind it: y = f(γ·x̂ + β).

    Forward passes over x twice, for its moments and for y. Backward does for g = dy·f'(γ·x̂ + β)
    with the sums Σg and Σg·x̂, and for dx = γ·r·(g − Σg/m − x̂·Σg·x̂/m), as in norm.py.
    """

    def forward(self, x: Tensor):
        norm = self.layers[0]
        mean, var = norm.statistics(x, native.moments)
        saved = x, mean, torch.rsqrt(var + norm.eps), self.training
        return self.output(saved), saved

    def output(self, saved):
        x, mean, rstd, _ = saved
        return native.act_forward(x, mean, *self._affine(rstd), _name(self))

    def backward(self, saved, dy: Tensor):
        x, mean, rstd, training = saved
        scale, bias = self._affine(rstd)
        dx, sums = native.norm_act_backward(x, dy, mean, rstd, scale, bias, _name(self), training)
        grads = {"weight": sums[1] * rstd, "bias": sums[0].clone()}
        return dx, {name: grads[name] for name in self.params}

    def _affine(self, rstd: Tensor):
        gamma, beta = (self.params.get(name) for name in ("weight", "bias"))
        scale = rstd.clone() if gamma is None else rstd * gamma
        return scale, torch.zeros_like(rstd) if beta is None else beta


class ConvPool(Stage):
    """A 3 × 3 Conv2d with a 2 × 2 MaxPool2d behind it.

    What lies between them, the largest thing of all, is never there: a window's four results are
    compared as they are made, and in backward dy is put at its winner's place as it is read. A row or
    column that no window reaches isn't computed. Saved are x, and of every window which was the largest.
    """

    def forward(self, x: Tensor):
        self.layers[0].windows.check(self.layers[0], x)
        y, winner = native.conv_pool(x, self.params["weight"], self.params.get("bias"))
        return y, (x, winner)

    def backward(self, saved, dy: Tensor):
        x, winner = saved
        grads = {"weight": native.conv_pool_weight_gradient(x, dy, winner)}
        if "bias" in self.params:
            grads["bias"] = dy.sum((0, 2, 3), dtype=torch.float32)
        wanted = (winner, self.params["weight"], *x.shape[2:])
        dx = native.conv_pool_input_gradient(dy, *wanted) if self.input_grad else None
        return dx, {name: g.to(self.params[name].dtype) for name, g in grads.items()}


class Pool(Stage):
    """A 2 × 2 MaxPool2d by itself, on a GPU. Saved is of every window which was the largest, a byte."""

    def forward(self, x: Tensor):
        self.layers[0].windows.check(self.layers[0], x)
        y, winner = native.pool(x)
        return y, (winner, x.shape[2:])

    def backward(self, saved, dy: Tensor):
        winner, (h, w) = saved
        return native.unpool(dy, winner, h, w), {}


def _name(stage: Stage) -> str:
    """The activation behind a stage's first layer, as the kernels call it."""
    return {GELU: "gelu", ReLU: "relu"}[type(stage.layers[1])] if len(stage.layers) > 1 else "none"


def _is_act(layer: Layer) -> bool:
    return type(layer) is ReLU or (type(layer) is GELU and layer.approximate == "none")


def _is_pool(layer: Layer) -> bool:
    return type(layer) is MaxPool2d and layer.windows == Windows.of(2, 2, 0)


def _stage(layer: Layer, after: Layer | None, convolves: bool) -> Stage | None:
    if type(layer) is BatchNorm2d:
        return NormAct(layer, after) if _is_act(after) else NormAct(layer)
    if type(layer) is Whiten2d and _is_act(after):
        return WhitenAct(layer, after)
    if convolves and type(layer) is Conv2d and layer.is_same_3x3() and _is_pool(after):
        return ConvPool(layer, after)
    if not convolves and _is_pool(layer):
        return Pool(layer)
    return None


class Fused(Sequential):
    """A Sequential some of whose layers are done by stages: the same parameters under the same names."""

    def __init__(self, stages: dict[str, Layer]):
        Net.__init__(self, **stages)
        self.recompute, self.frozen = True, 0


def fuse(net: Layer, device: torch.device, dtype: torch.dtype, kernel: str = "native") -> Layer:
    """The net with stages wherever they serve.

    The net itself where the kernels aren't to be had, or `kernel`, a config's, asks for others.
    """
    serves = kernel == "native" and native.serve(device, dtype)
    return _fuse(net, native.convolves(device, dtype)) if serves else net


def _fuse(layer: Layer, convolves: bool) -> Layer:
    if type(layer) is Residual:
        return Residual(*(_fuse(child, convolves) for child in layer.children.values()))
    if type(layer) is not Sequential:
        return layer
    stages, names, i = {}, list(layer.children), 0
    layers = list(layer.children.values())
    while i < len(layers):
        stage = _stage(layers[i], layers[i + 1] if i + 1 < len(layers) else None, convolves)
        stages[names[i]] = stage or _fuse(layers[i], convolves)
        i += len(stage.layers) if stage else 1
    return Fused(stages)
