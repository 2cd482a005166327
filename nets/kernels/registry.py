"""The registry of fast forms, and `lower`, which puts them in the place of a net's layers.

A form obeys the contract of a layer. It has the parameters of the layers that it replaces, under the
same names, and gives the same results but for rounding. A backend is a list of forms in order of
preference; each form tells which consecutive layers it can do, on which device and in which dtype.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from nets.layers.base import Layer
from nets.layers.containers import Residual, Sequential

# "reference": the layers' own formulas, in tensor code
# "torch": the library's backward kernels, where it has them
# "native": kernels of this project, else the library's
BACKENDS = ("reference", "torch", "native")


@dataclass(frozen=True)
class Target:
    """Where a net will run."""

    device: torch.device
    dtype: torch.dtype


class Form(Layer):
    """One or more consecutive layers as one. The first may have parameters, the others have none."""

    FORMS: ClassVar[dict[str, list[type["Form"]]]] = {backend: [] for backend in BACKENDS}

    def __init_subclass__(cls, backend: str | None = None, **kwargs):
        super().__init_subclass__(**kwargs)
        if backend:
            Form.FORMS[backend].append(cls)

    def __init__(self, *layers: Layer):
        self.layers = layers
        self.params, self.buffers = layers[0].params, layers[0].buffers

    @property
    def training(self) -> bool:  # type: ignore[override]
        return self.layers[0].training

    @training.setter
    def training(self, mode: bool):
        for layer in self.layers:
            layer.training = mode

    @classmethod
    def count(cls, layers: Sequence[Layer], target: Target) -> int:
        """How many of these consecutive layers the form can do as one; 0: none."""
        raise NotImplementedError

    @classmethod
    def has_torch(cls):
        return True

    def to_torch(self, **_):
        return self._module("to_torch")

    def to_reference(self, **_):
        return self._module("to_reference")

    def _module(self, method: str) -> nn.Module:
        """The layers' modules in a row, with the first one's tensors under their own names."""
        first, *others = (getattr(layer, method)() for layer in self.layers)
        return Row(first, others) if others else first

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"


class Row(nn.Module):
    """Modules in a row, of which the first has all parameters and buffers: they are this module's own."""

    def __init__(self, first: nn.Module, others: Sequence[nn.Module]):
        super().__init__()
        self.__dict__["first"] = first  # not a submodule: its tensors have no prefix
        self._parameters, self._buffers = first._parameters, first._buffers
        self.others = nn.ModuleList(others)

    def train(self, mode: bool = True):
        self.first.train(mode)
        return super().train(mode)

    def forward(self, x):
        x = self.first(x)
        for module in self.others:
            x = module(x)
        return x


def forms(backend: str) -> list[type[Form]]:
    """A backend's forms, the preferred first. ValueError names an unknown backend."""
    if backend not in BACKENDS:
        raise ValueError(f'backend is "reference", "torch" or "native", not "{backend}"')
    chain = BACKENDS[: BACKENDS.index(backend) + 1]
    return [form for name in reversed(chain) for form in Form.FORMS[name]]


def lower(net: Layer, backend: str, device: torch.device | str, dtype: torch.dtype) -> Layer:
    """The net with a backend's forms in the place of its layers: the same parameters under the same names.

    The net itself is unchanged. A layer without a form stays as it is.
    """
    known = forms(backend)
    return _lower(net, known, Target(torch.device(device), dtype)) if known else net


def _lower(layer: Layer, known: list[type[Form]], target: Target) -> Layer:
    if type(layer) is Residual:
        children = {name: _lower(child, known, target) for name, child in layer.children.items()}
        net = Residual(**children)
        net.training = layer.training
        return net
    if type(layer) is Sequential:
        return _lower_row(layer, known, target)
    form = _form([layer], known, target)
    return form or layer


def _lower_row(net: Sequential, known: list[type[Form]], target: Target) -> Sequential:
    names, layers, i = list(net.children), list(net), 0
    children: dict[str, Layer] = {}
    while i < len(layers):
        form = _form(layers[i:], known, target)
        children[names[i]] = form or _lower(layers[i], known, target)
        i += len(form.layers) if form else 1
    return net.with_children(children)


def _form(layers: Sequence[Layer], known: list[type[Form]], target: Target) -> Form | None:
    for form in known:
        count = form.count(layers, target)
        if count:
            return form(*layers[:count])
    return None
