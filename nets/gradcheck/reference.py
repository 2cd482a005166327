"""The reference: the same net as a torch.nn module, which autograd can differentiate.

It is the oracle that hand-written gradients are compared with; nothing trains on it. A layer without
a module of its own is its own reference: autograd differentiates its forward.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nets.layers.base import Layer
from nets.layers.containers import Net
from nets.layers.to_module import ModuleBuilder


class OwnForward(nn.Module):
    """A layer's own forward as a module. Its backward is checked in full, its forward only by differences."""

    def __init__(self, layer: Layer, tensors: dict[int, Tensor]):
        super().__init__()
        self.layer, self.tensors = layer, tensors

    def forward(self, x: Tensor) -> Tensor:
        return self._copy(self.layer).forward(x)[0]

    def _copy(self, layer: Layer) -> Layer:
        """The layer with autograd's parameters in the place of its own."""
        copy = object.__new__(type(layer))
        copy.__dict__ = {k: v for k, v in vars(layer).items() if k not in ("forward", "backward")}
        if isinstance(layer, Net):
            copy.children = {name: self._copy(child) for name, child in layer.children.items()}  # type: ignore
        else:
            copy.params = {k: self.tensors[id(v)] for k, v in layer.params.items()}
            copy.buffers = {k: self.tensors[id(v)] for k, v in layer.buffers.items()}
        return copy


@dataclass
class Answer:
    """Autograd's gradients of one layer or net."""

    y: Tensor
    dx: Tensor
    grads: dict[str, Tensor]
    buffers: dict[str, Tensor]  # after the forward
    inputs: list[tuple[Layer, Tensor]]  # (layer, dx) of every layer inside, in the order of forward


def differentiate(layer: Layer, x: Tensor, dy: Tensor | None = None, objective=None) -> Answer:
    """Autograd's answer, from dy, the gradient at y, or for objective: y -> scalar."""
    builder = ModuleBuilder()
    builder.make = lambda layer, **children: _module(layer, builder.tensors, children)
    module, inputs = builder.build(layer), []
    for inner in layer.walk():
        if inner is not layer and id(inner) in builder.modules:
            builder.modules[id(inner)].register_forward_pre_hook(_record(inner, inputs))
    params = {k: builder.tensors[id(v)] for k, v in layer.params.items()}
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = module(x)
    wanted = [x, *params.values(), *(t for _, t in inputs)]
    if objective is None:
        found = torch.autograd.grad(y, wanted, dy, allow_unused=True)
    else:
        found = torch.autograd.grad(objective(y), wanted, allow_unused=True)
    found = [torch.zeros_like(w) if g is None else g for g, w in zip(found, wanted)]
    n = 1 + len(params)
    buffers = {k: builder.tensors[id(v)].detach() for k, v in layer.buffers.items()}
    dxs = [(inner, dx) for (inner, _), dx in zip(inputs, found[n:])]
    return Answer(y.detach(), found[0], dict(zip(params, found[1:n])), buffers, dxs)


def _module(layer: Layer, tensors: dict[int, Tensor], children: dict[str, nn.Module]) -> nn.Module:
    return layer.to_reference(**children) if layer.has_torch() else OwnForward(layer, tensors)


def _record(layer: Layer, inputs: list):
    """A hook that records what a layer gets, as a tensor of its own: x on two paths has a gradient on each."""

    def hook(module, args):
        x = args[0].view_as(args[0])
        inputs.append((layer, x))
        return (x, *args[1:])

    return hook


def is_own(layer: Layer) -> bool:
    """Is this layer its own reference? Then autograd can't tell whether its forward is right."""
    return not layer.has_torch()
