"""The twin: the same net in torch.nn.functional, which autograd can differentiate.

It is the oracle that hand-written gradients are compared with, and nothing trains on it.
`run(layer, x, of)` is layer's forward; `of(tensor)` gives autograd's copy of a parameter or
buffer, so that a tensor in two places is one leaf there too. A net's twin calls its children's
by `through`, which takes down what each layer got, so that its gradient can be asked for.
"""

from dataclasses import dataclass
from functools import singledispatch

import torch
from torch.nn import functional as F

from nets import losses as loss
from nets.kernels import fused
from nets.layers import activations, adaptive_pool, conv, dropout, linear, norm, pool, response_norm, whiten
from nets.layers import containers as net
from nets.layers.base import Net, sum_dtype


@singledispatch
def run(layer, x, of):
    """A layer that isn't listed is its own twin: autograd differentiates its forward.

    Its backward is still checked in full; its forward isn't checked against another.
    """
    return _stand_in(layer, of).forward(x)[0]


def through(layer, x, of):
    """run(layer, x, of), with x noted in `of`."""
    return run(layer, of.note(layer, x), of)


def _stand_in(layer, of):
    """A copy of a layer whose parameters are autograd's."""
    copy = object.__new__(type(layer))
    copy.__dict__ = {k: v for k, v in vars(layer).items() if k not in ("forward", "backward")}
    if isinstance(layer, Net):
        copy.children = {name: _stand_in(child, of) for name, child in layer.children.items()}
    else:
        copy.params = {k: of(v) for k, v in layer.params.items()}
    return copy


def _weights(layer, x, of):
    """weight and bias in x's dtype, None where there is none."""
    params = (layer.params.get("weight"), layer.params.get("bias"))
    return [None if p is None else of(p).to(x.dtype) for p in params]


@run.register
def _(layer: linear.Linear, x, of):
    return F.linear(x, *_weights(layer, x, of))


@run.register
def _(layer: linear.Flatten, x, of):
    return torch.flatten(x, 1)


@run.register
def _(layer: activations.Scale, x, of):
    return layer.factor * x


for _name in ("Sigmoid", "Tanh", "ReLU", "SiLU"):
    # each has its function's name, in capitals
    run.register(getattr(activations, _name), lambda layer, x, of, f=getattr(F, _name.lower()): f(x))


@run.register
def _(layer: activations.GELU, x, of):
    return F.gelu(x, approximate=layer.approximate)


@run.register
def _(layer: dropout.Dropout, x, of):
    if not layer.training or layer.p == 1:
        return F.dropout(x, layer.p, layer.training)
    # the same draw as the layer's, after the same seed; F.dropout draws otherwise
    keep = torch.rand_like(x, dtype=torch.float32) >= layer.p
    return torch.where(keep, x, 0) / (1 - layer.p)


@run.register
def _(layer: conv.Conv2d, x, of):
    win = layer.windows
    w, b = _weights(layer, x, of)
    return F.conv2d(x, w, b, win.stride, win.padding, win.dilation, layer.groups)


@run.register
def _(layer: whiten.Whiten2d, x, of):
    return F.conv2d(x, of(layer.buffers["weight"]).to(x.dtype), _weights(layer, x, of)[1])


@run.register
def _(layer: pool.MaxPool2d, x, of):
    win = layer.windows
    return F.max_pool2d(x, win.size, win.stride, win.padding, win.dilation)


@run.register
def _(layer: pool.AvgPool2d, x, of):
    win = layer.windows
    return F.avg_pool2d(x, win.size, win.stride, win.padding)


@run.register
def _(layer: pool.GlobalMaxPool, x, of):
    return F.adaptive_max_pool2d(x, 1).flatten(1)


@run.register
def _(layer: pool.GlobalAvgPool, x, of):
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


@run.register
def _(layer: adaptive_pool.AdaptiveAvgPool2d, x, of):
    return F.adaptive_avg_pool2d(x, layer.output_size)


@run.register
def _(layer: norm.BatchNorm2d, x, of):
    mean, var = (of(layer.buffers[k]) for k in ("running_mean", "running_var"))
    weight, bias = (layer.params.get(k) for k in ("weight", "bias"))
    if weight is not None:
        weight, bias = of(weight), of(bias)
    return F.batch_norm(x, mean, var, weight, bias, layer.training, layer.momentum, layer.eps)


@run.register
def _(layer: response_norm.LocalResponseNorm, x, of):
    wide = x.to(sum_dtype(x))  # the library's has no bfloat16 on a CPU
    return F.local_response_norm(wide, layer.size, layer.alpha, layer.beta, layer.k).to(x.dtype)


@run.register
def _(layer: net.Sequential, x, of):
    for child in layer.children.values():
        x = through(child, x, of)
    return x


@run.register
def _(layer: net.Residual, x, of):
    around = layer.children.get("shortcut")
    y = through(layer.children["body"], x, of)
    return y + (x if around is None else through(around, x, of))


@run.register
def _(layer: fused.Stage, x, of):
    for inner in layer.layers:
        x = run(inner, x, of)
    return x


def loss_value(function, z, target):
    """A loss of nets.losses, as torch.nn.functional has it."""
    if isinstance(function, loss.CrossEntropy):
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        smooth, reduction = function.label_smoothing, function.reduction
        return F.cross_entropy(z, target, label_smoothing=smooth, reduction=reduction)
    if target.shape != z.shape:
        target = F.one_hot(target, z.shape[-1])
    if isinstance(function, loss.MeanSquaredError):
        return F.mse_loss(z, target.to(z.dtype), reduction=function.reduction)
    return -0.5 * F.mse_loss(z, target.to(z.dtype), reduction="sum")


class Leaves:
    """Autograd's copies of a layer's tensors: `of` for `run`, and the gradients afterwards."""

    def __init__(self, layer):
        self.params = {k: v.detach().clone().requires_grad_() for k, v in layer.params.items()}
        self.buffers = {k: v.detach().clone() for k, v in layer.buffers.items()}
        self._by_id = {id(v): self.params[k] for k, v in layer.params.items()}
        self._by_id |= {id(v): self.buffers[k] for k, v in layer.buffers.items()}
        self.inputs = []  # (layer, what it got), in the order of forward

    def __call__(self, tensor):
        return self._by_id[id(tensor)]

    def note(self, layer, x):
        x = x.view_as(x)  # a tensor of its own: what goes two ways has a gradient on each
        self.inputs.append((layer, x))
        return x


@dataclass
class Answer:
    """Autograd's gradients of one layer or net."""

    y: torch.Tensor
    dx: torch.Tensor
    grads: dict
    buffers: dict  # after the forward
    inputs: list  # (layer, dx) of every layer inside, in the order of forward


def differentiate(layer, x, dy=None, objective=None) -> Answer:
    """Autograd's answer, from dy, the gradient at y, or for objective: y -> scalar."""
    of = Leaves(layer)
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = run(layer, x, of)
    wanted = [x, *of.params.values(), *(t for _, t in of.inputs)]
    if objective is None:
        found = torch.autograd.grad(y, wanted, dy, allow_unused=True)
    else:
        found = torch.autograd.grad(objective(y), wanted, allow_unused=True)
    found = [torch.zeros_like(w) if g is None else g for g, w in zip(found, wanted)]
    n = 1 + len(of.params)
    inputs = [(inner, dx) for (inner, _), dx in zip(of.inputs, found[n:])]
    return Answer(y.detach(), found[0], dict(zip(of.params, found[1:n])), of.buffers, inputs)


def is_own(layer) -> bool:
    """Is this layer its own twin, so that autograd can't tell whether its forward is right?"""
    return run.dispatch(type(layer)) is run.dispatch(object)
