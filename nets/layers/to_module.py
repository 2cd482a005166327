"""A layer or net as a torch.nn module with the same weights, which autograd can differentiate.

Weights keep their dtype, and forward converts them to the dtype of x. For example, float32 weights are
rounded to bfloat16 if the images are bfloat16, but their gradients and updates are float32. In
measurements this was no slower than torch.autocast, and no slower than a bfloat16 module with a float32
copy of its weights.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nets.layers.base import Layer
from nets.layers.containers import Net


def named_layers(net: Layer, name: str = ""):
    """Yield (name, layer) for each layer in a net and for the net itself, such as ("0.body (Conv2d)", layer).

    A layer that is used several times comes once, with its first name. Inner layers come before their net.
    """
    seen = set()
    for path, layer in _paths(net, name):
        if id(layer) not in seen:
            seen.add(id(layer))
            yield f"{path} ({type(layer).__name__})" if path else type(layer).__name__, layer


def _paths(layer: Layer, path: str):
    """Yield (path, layer) for each place in a net."""
    for child, inner in getattr(layer, "children", {}).items():
        yield from _paths(inner, f"{path}.{child}" if path else child)
    yield path, layer


def to_module(layer: Layer) -> nn.Module:
    """The layer or net as a torch.nn module, with clones of its weights and statistics.

    Parameters and buffers keep their names, shared layers and tensors stay shared, and training or
    evaluation mode is kept. Whiten2d's filters become a weight that requires no gradient.
    ValueError names all layers that have no module.
    """
    unknown = [name for name, inner in named_layers(layer) if not inner.has_torch()]
    if unknown:
        raise ValueError(f"no torch.nn module for {', '.join(unknown)}")
    return ModuleBuilder().build(layer)


class ModuleBuilder:
    """Builds modules, and records the module of each layer and the copy of each tensor.

    modules  id of a layer -> its module
    tensors  id of a layer's tensor -> the module's parameter or buffer
    make     (layer, **modules of its children) -> module; its tensors may have any values
    """

    def __init__(self, make: Callable[..., nn.Module] = lambda layer, **children: layer.to_torch(**children)):
        self.make = make
        self.modules: dict[int, nn.Module] = {}
        self.tensors: dict[int, Tensor] = {}

    def build(self, layer: Layer) -> nn.Module:
        """The module of a layer. It draws initial values, but leaves torch's random state unchanged."""
        with torch.random.fork_rng(devices=[]):
            return self._build(layer)

    def _build(self, layer: Layer) -> nn.Module:
        if id(layer) not in self.modules:
            children = layer.children if isinstance(layer, Net) else {}
            module = self.make(layer, **{name: self._build(child) for name, child in children.items()})
            if layer.is_leaf():
                self._fill(module, layer)
                module.train(layer.training)
            module.training = layer.training  # not .train(): the layers of a net may be in another mode
            self.modules[id(layer)] = module
        return self.modules[id(layer)]

    def _fill(self, module: nn.Module, layer: Layer):
        """Replace the tensors of the module, if it has any under names, by copies of those of the layer."""
        named = getattr(module, "named_tensors", True)
        for name, t in layer.params.items():
            copy = self.tensors.setdefault(id(t), nn.Parameter(t.detach().clone()))
            if named:
                setattr(module, name, copy)
        parameters = dict(module.named_parameters())
        for name, t in layer.buffers.items():
            copy = t.detach().clone()
            if name in parameters:  # filters that aren't trained, rather than a statistic
                copy = nn.Parameter(copy, requires_grad=False)
            copy = self.tensors.setdefault(id(t), copy)
            if named:
                setattr(module, name, copy)
