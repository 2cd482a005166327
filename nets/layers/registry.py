"""The registry of layers by name, for configs, gradcheck and the conversion from and to torch.

The functions below it help a layer to define `from_torch` and `torch_calls`.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from nets.common.errors import Unsupported
from nets.layers.base import Layer

LAYERS: dict[str, type[Layer]] = {}
LayerClass = TypeVar("LayerClass", bound=type[Layer])


def register(cls: LayerClass) -> LayerClass:
    """Class decorator: add a layer to LAYERS under its class name. ValueError if the name is taken."""
    other = LAYERS.setdefault(cls.__name__, cls)
    if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"two layers are called {cls.__name__}")
    return cls


def examples(cls: type[Layer]) -> list[tuple[str, Layer, tuple[int, ...]]]:
    """(name with options, layer, shape of its input) for each example of a layer class."""
    found = []
    for shape, options in cls.examples:
        layer = options() if callable(options) else cls(**options)
        text = "" if callable(options) else ", ".join(f"{k}={v}" for k, v in options.items())
        found.append((f"{cls.__name__}({text})", layer, shape))
    return found


def require(module: nn.Module, **options: Any):
    """Unsupported unless the module's options have these values, the only ones that the layer supports."""
    for name, supported in options.items():
        value = getattr(module, name)
        if value != supported:
            raise Unsupported(f"{type(module).__name__} with {name}={value!r}")


@dataclass(frozen=True)
class Operand:
    """A tensor among the arguments of a call in a traced forward. The functions of `torch_calls` get these.

    index  its place among the tensors that the equivalent module takes
    """

    index: int

    def __str__(self) -> str:
        return "a tensor"


@dataclass(frozen=True)
class Mode:
    """An argument that is the module's mode, such as `training` in F.dropout(x, 0.5, self.training)."""

    training: bool

    def __bool__(self) -> bool:
        return self.training
