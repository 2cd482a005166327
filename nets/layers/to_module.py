"""A layer or net as a torch.nn module with the same weights: the form that autograd can differentiate.

Weights keep their type and follow the type of x: float32 weights are rounded to bfloat16 where the
pictures are bfloat16, and their gradients and updates are float32 again. That was measured to be no
slower than torch.autocast, or than a module in bfloat16 beside a float32 copy of its weights.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nets.layers.base import Layer
from nets.layers.containers import Net


def named_layers(net: Layer, name: str = ""):
    """Yield (name, layer) of every layer in a net and of the net itself, each layer once."""
    seen = set()
    for path, layer in _paths(net, name):
        if id(layer) not in seen:
            seen.add(id(layer))
            yield f"{path} ({type(layer).__name__})" if path else type(layer).__name__, layer


def _paths(layer: Layer, path: str):
    for child, inner in getattr(layer, "children", {}).items():
        yield from _paths(inner, f"{path}.{child}" if path else child)
    yield path, layer


def to_module(layer: Layer) -> nn.Module:
    """The layer or net as a torch.nn module, with clones of its weights and statistics.

    A parameter or buffer has the same name in both. What is shared stays shared, Whiten2d's filters
    are a weight that requires no gradient, and training or evaluation mode is kept.
    ValueError names every layer that has no module.
    """
    unknown = [name for name, inner in named_layers(layer) if not inner.has_torch()]
    if unknown:
        raise ValueError(f"no torch.nn module for {', '.join(unknown)}")
    return ModuleBuilder().build(layer)


class ModuleBuilder:
    """Builds modules, and remembers which module belongs to which layer, and which tensor to which.

    modules  id of a layer -> its module
    tensors  id of a layer's tensor -> the module's parameter or buffer
    make     (layer, **children's modules) -> a module, whatever its tensors' values
    """

    def __init__(self, make: Callable[..., nn.Module] = lambda layer, **children: layer.to_torch(**children)):
        self.make = make
        self.modules: dict[int, nn.Module] = {}
        self.tensors: dict[int, Tensor] = {}

    def build(self, layer: Layer) -> nn.Module:
        """The module of a layer. Its initial values are drawn and replaced: torch's random numbers stay as they were."""
        with torch.random.fork_rng(devices=[]):
            return self._build(layer)

    def _build(self, layer: Layer) -> nn.Module:
        if id(layer) not in self.modules:
            children = layer.children if isinstance(layer, Net) else {}
            module = self.make(layer, **{name: self._build(child) for name, child in children.items()})
            if layer.is_leaf():
                self._fill(module, layer)
                module.train(layer.training)
            module.training = layer.training  # of a net alone: its layers may be in another mode
            self.modules[id(layer)] = module
        return self.modules[id(layer)]

    def _fill(self, module: nn.Module, layer: Layer):
        for name, t in layer.params.items():
            copy = self.tensors.setdefault(id(t), nn.Parameter(t.detach().clone()))
            setattr(module, name, copy)
        frozen = dict(module.named_parameters())
        for name, t in layer.buffers.items():  # a statistic, or filters that aren't trained
            copy = (
                nn.Parameter(t.detach().clone(), requires_grad=False)
                if name in frozen
                else t.detach().clone()
            )
            setattr(module, name, self.tensors.setdefault(id(t), copy))
