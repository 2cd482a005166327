"""The twin: the same net in torch.nn.functional, which autograd can differentiate.

It is the oracle that hand-written gradients are compared with, and nothing trains on it.
`run(layer, x, of)` is layer's forward; `of(tensor)` gives autograd's copy of a parameter or
buffer, so that a tensor in two places is one leaf there too.
"""

from functools import singledispatch

import torch
from torch.nn import functional as F

from nets import activations, conv, dropout, linear, loss, net, norm, pool, whiten
from nets.layer import Net


@singledispatch
def run(layer, x, of):
    """A layer that isn't listed is its own twin: autograd differentiates its forward.

    Its backward is still checked in full; its forward isn't checked against another.
    """
    return _stand_in(layer, of).forward(x)[0]


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


for _name in ("Sigmoid", "Tanh", "ReLU", "GELU", "SiLU"):
    # each has its function's name, in capitals
    run.register(
        getattr(activations, _name), lambda layer, x, of, f=getattr(F, _name.lower()): f(x)
    )


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
def _(layer: norm.BatchNorm2d, x, of):
    mean, var = (of(layer.buffers[k]) for k in ("running_mean", "running_var"))
    weight, bias = (layer.params.get(k) for k in ("weight", "bias"))
    if weight is not None:
        weight, bias = of(weight), of(bias)
    return F.batch_norm(x, mean, var, weight, bias, layer.training, layer.momentum, layer.eps)


@run.register
def _(layer: net.Sequential, x, of):
    for child in layer.children.values():
        x = run(child, x, of)
    return x


@run.register
def _(layer: net.Residual, x, of):
    around = layer.children.get("shortcut")
    return run(layer.children["body"], x, of) + (x if around is None else run(around, x, of))


def loss_value(function, z, target):
    """A loss of nets.loss, as torch.nn.functional has it."""
    if isinstance(function, loss.CrossEntropy):
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        smooth, reduction = function.label_smoothing, function.reduction
        return F.cross_entropy(z, target, label_smoothing=smooth, reduction=reduction)
    if target.dim() == 1:
        target = F.one_hot(target, z.shape[1])
    return -0.5 * F.mse_loss(z, target.to(z.dtype), reduction="sum")


class Leaves:
    """Autograd's copies of a layer's tensors: `of` for `run`, and the gradients afterwards."""

    def __init__(self, layer):
        self.params = {k: v.detach().clone().requires_grad_() for k, v in layer.params.items()}
        self.buffers = {k: v.detach().clone() for k, v in layer.buffers.items()}
        self._by_id = {id(v): self.params[k] for k, v in layer.params.items()}
        self._by_id |= {id(v): self.buffers[k] for k, v in layer.buffers.items()}

    def __call__(self, tensor):
        return self._by_id[id(tensor)]


def differentiate(layer, x, dy=None, objective=None):
    """Autograd's answer: (y, dx, grads, buffers after the forward).

    dy: the gradient at y; or objective: y -> scalar, whose gradient is taken.
    """
    of = Leaves(layer)
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = run(layer, x, of)
    wanted = [x, *of.params.values()]
    if objective is None:
        found = torch.autograd.grad(y, wanted, dy, allow_unused=True)
    else:
        found = torch.autograd.grad(objective(y), wanted, allow_unused=True)
    found = [torch.zeros_like(w) if g is None else g for g, w in zip(found, wanted)]
    return y.detach(), found[0], dict(zip(of.params, found[1:])), of.buffers
