"""The registry of fast forms, and `lower`, which puts them in the place of a net's layers.

A form replaces one or more consecutive layers. It obeys the contract of a layer, has the parameters of the
layers that it replaces, under the same names, and gives the same results except for rounding. A backend is
a list of forms in order of preference. Each form defines for which layers, device and dtype it is used.
"""

import functools
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar, cast

import torch
from torch import nn

from nets.kernels import native
from nets.kernels.native import cpp
from nets.layers.base import Layer
from nets.layers.containers import Residual, Sequential
from nets.layers.graph import Graph

# "reference": the layers' own formulas
# "torch": the library's backward kernels, for layers that have one
# "native": this project's kernels, and "torch" for the other layers
BACKENDS = ("reference", "torch", "native")
FirstLayer = TypeVar("FirstLayer", bound=Layer)


@dataclass(frozen=True)
class Target:
    """The device and dtype that a net will run with."""

    device: torch.device
    dtype: torch.dtype


class Form(Layer, Generic[FirstLayer]):
    """One or more consecutive layers as one layer.

    Only the first of them may have parameters and buffers; the form has the same tensors under the same
    names. A subclass is registered with `class MyForm(Form[Conv2d], backend="native")`.
    """

    FORMS: ClassVar[dict[str, list[type["Form"]]]] = {backend: [] for backend in BACKENDS}

    def __init_subclass__(cls, backend: str | None = None, **kwargs):
        super().__init_subclass__(**kwargs)
        if backend:
            Form.FORMS[backend].append(cls)

    def __init__(self, *layers: Layer):
        self.layers = layers
        self.params, self.buffers = layers[0].params, layers[0].buffers

    @property
    def first(self) -> FirstLayer:
        """The first of the layers, which has the parameters."""
        return cast(FirstLayer, self.layers[0])

    @property
    def training(self) -> bool:
        """The mode of the layers, which the form has no copy of."""
        return self.layers[0].training

    @training.setter
    def training(self, mode: bool):
        for layer in self.layers:
            layer.training = mode

    @classmethod
    def count(cls, layers: Sequence[Layer], target: Target) -> int:
        """How many of these consecutive layers, from the first on, the form can replace. 0 if it can't."""
        raise NotImplementedError

    @classmethod
    def has_torch(cls):
        return True

    def to_torch(self, **_):
        return self._module("to_torch")

    def to_reference(self, **_):
        return self._module("to_reference")

    def _module(self, method: str) -> nn.Module:
        """The modules of the layers one after another. The first one's tensors keep their names."""
        first, *others = (getattr(layer, method)() for layer in self.layers)
        return ModuleRow(first, others) if others else first

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"


class ModuleRow(nn.Module):
    """Modules one after another. The first has all parameters and buffers, and this module has the same."""

    first: nn.Module

    def __init__(self, first: nn.Module, others: Sequence[nn.Module]):
        super().__init__()
        self.__dict__["first"] = first  # not a submodule, so that the tensors' names have no prefix
        self._parameters, self._buffers = first._parameters, first._buffers
        self.others = nn.ModuleList(others)

    def train(self, mode: bool = True):
        """Set the mode of all modules."""
        self.first.train(mode)
        return super().train(mode)

    def forward(self, x):
        x = self.first(x)
        for module in self.others:
            x = module(x)
        return x


def forms(backend: str) -> list[type[Form]]:
    """A backend's forms in order of preference. ValueError for an unknown backend."""
    if backend not in BACKENDS:
        raise ValueError(f'backend is "reference", "torch" or "native", not "{backend}"')
    chain = BACKENDS[: BACKENDS.index(backend) + 1]
    return [form for name in reversed(chain) for form in Form.FORMS[name]]


@functools.cache
def running_backend(backend: str, device: torch.device, dtype: torch.dtype) -> str:
    """The backend itself, or "torch" where the kernels of "native" can't be had: one line then says why."""
    why = native.why_not(device, dtype) if backend == "native" else ""
    if not why:
        return backend
    if int(os.environ.get("RANK", 0)) == 0:  # once for all processes of a run
        print(f'note: backend "torch" runs, there are no kernels of "native": {why}', file=sys.stderr)
    return "torch"


def lower(net: Layer, backend: str, device: torch.device | str, dtype: torch.dtype) -> Layer:
    """The net with a backend's forms in the place of its layers: the same parameters under the same names.

    The net itself isn't changed. The result shares its tensors, and the layers that have no form.
    device, dtype: of the net's input.
    """
    known, target = forms(backend), Target(torch.device(device), dtype)
    running_backend(backend, target.device, dtype)  # says what can't be had
    return _lower(net, known, target) if known else net


def kernels(net: Layer) -> str:
    """The forms in a lowered net, such as "3 NormAct, 1 WhitenAct", and the library of the C++ kernels."""
    forms = [type(layer) for layer in net.walk() if isinstance(layer, Form)]
    names = Counter(form.__name__ for form in forms)
    words = [f"{count} {name}" for name, count in sorted(names.items())]
    if any(form in Form.FORMS["native"] for form in forms):
        words += cpp.build
    return ", ".join(words) or "the layers' own formulas"


def _lower(layer: Layer, known: list[type[Form]], target: Target) -> Layer:
    if type(layer) is Residual:
        children = {name: _lower(child, known, target) for name, child in layer.children.items()}
        net = Residual(**children)
        net.training = layer.training
        return net
    if type(layer) is Graph:
        return layer.with_children({k: _lower(child, known, target) for k, child in layer.children.items()})
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
