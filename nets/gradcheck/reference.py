"""The reference: the net as a torch.nn module, which autograd can differentiate.

Hand-written gradients are compared with it. It isn't used in training. A layer without a torch.nn module
is its own reference: autograd differentiates its forward.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType

import torch
from torch import Tensor, nn

from nets.gradcheck.one_input import of_net
from nets.gradcheck.replica import parts, replica
from nets.layers.base import Layer
from nets.layers.to_module import ModuleBuilder


class OwnForward(nn.Module):
    """A layer's own forward as a module. With it, only finite differences can find an error in forward."""

    named_tensors = False  # a layer's own names may be none that a module can have

    def __init__(self, layer: Layer, tensors: dict[int, Tensor]):
        super().__init__()
        self.layer, self.tensors = layer, tensors

    def forward(self, *xs: Tensor) -> Tensor:
        layer = self._copy()
        y = layer.forward(*xs)[0]
        for name, t in self.layer.buffers.items():  # a forward may replace a buffer instead of writing to it
            self.tensors[id(t)] = layer.buffers[name]
        return y

    def _copy(self) -> Layer:
        """The layer with autograd's parameters in all places that hold its own."""
        layer = replica(self.layer, instead=self.tensors)
        for inner in parts(layer):
            for name in ("forward", "backward") if isinstance(inner, Layer) else ():
                if isinstance(vars(inner).get(name), FunctionType):  # it would call the original
                    delattr(inner, name)
        return layer


@dataclass
class Answer:
    """Autograd's result for one layer or net."""

    y: Tensor
    dx: Tensor
    grads: dict[str, Tensor]
    buffers: dict[str, Tensor]  # after the forward
    inputs: list[tuple[Layer, Tensor]]  # (layer, dx) for every layer inside, in the order of forward


def differentiate(
    layer: Layer,
    x: Tensor,
    dy: Tensor | None = None,
    objective: Callable[[Tensor], Tensor] | None = None,
) -> Answer:
    """Autograd's gradients at x, for dy, the gradient at y, or for an objective, y -> scalar."""
    builder = ModuleBuilder()
    builder.make = lambda layer, **children: _module(layer, builder.tensors, children)
    module, inputs = builder.build(layer), []
    for inner in layer.walk():
        if inner is not layer and id(inner) in builder.modules:
            builder.modules[id(inner)].register_forward_pre_hook(_record(inner, inputs))
    params = {k: builder.tensors[id(v)] for k, v in layer.params.items()}
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = module(x)
    tensors = [x, *params.values(), *(t for _, t in inputs)]
    if objective is None:
        found = torch.autograd.grad(y, tensors, dy, allow_unused=True)
    else:
        found = torch.autograd.grad(objective(y), tensors, allow_unused=True)
    found = [torch.zeros_like(t) if g is None else g for g, t in zip(found, tensors)]
    n = 1 + len(params)
    buffers = {k: builder.tensors[id(v)].detach() for k, v in layer.buffers.items()}
    dxs = [(inner, dx) for (inner, _), dx in zip(inputs, found[n:])]
    return Answer(y.detach(), found[0], dict(zip(params, found[1:n])), buffers, dxs)


def _module(layer: Layer, tensors: dict[int, Tensor], children: dict[str, nn.Module]) -> nn.Module:
    return OwnForward(layer, tensors) if is_own(layer) else layer.to_reference(**children)


def _record(layer: Layer, inputs: list):
    """A hook that records a layer's input as a new tensor, so that each use of x has its own gradient."""

    def hook(module, args):
        x = args[0].view_as(args[0])
        inputs.append((layer, x))
        return (x, *args[1:])

    return hook


# Methods that a subclass can redefine without changing what forward computes.
HARMLESS = {"__init__", "__repr__", "extra_repr", "backward", "to_reference", "from_torch"}
HARMLESS |= {"output", "drop_input", "add_input"}


def is_own(layer: Layer) -> bool:
    """Whether the layer is its own reference. Autograd then can't find an error in its forward.

    A subclass that redefines a method that its base class has may compute something else than the torch
    module of the base class.
    """
    layer = of_net(layer)
    if not layer.has_torch():
        return True
    if type(layer).has_torch.__func__ is not Layer.has_torch.__func__:
        return False  # the class says itself that its module is valid
    for cls in type(layer).__mro__:
        if "to_torch" in vars(cls):
            return False
        redefined = (k for k, v in vars(cls).items() if callable(v) or isinstance(v, (property, classmethod)))
        if issubclass(cls, Layer) and any(k not in HARMLESS and _inherits(cls, k) for k in redefined):
            return True
    return False


def _inherits(cls: type, name: str) -> bool:
    return any(name in vars(base) for base in cls.__mro__[1:] if base is not object)
