"""The registry of layers by name, for configs, gradcheck and the conversion from and to torch.

The functions below it help a layer to define `from_torch` and `torch_calls`.
"""

import operator
from typing import Any, TypeVar

from torch import fx, nn

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


def is_size(node: fx.Node) -> bool:
    """Whether a node of a traced forward is x.size(…), x.shape or one of its entries: no layer's output."""
    if node.op == "call_function" and node.target is operator.getitem:
        return isinstance(node.args[0], fx.Node) and is_size(node.args[0])
    if node.op == "call_function":
        return bool(node.target is getattr and node.args[1] == "shape")
    return node.op == "call_method" and node.target == "size"


def is_batch_size(size: Any, x: fx.Node) -> bool:
    """Whether size is the number of samples of x: x.size(0) or x.shape[0]."""
    if not isinstance(size, fx.Node) or not is_size(size):
        return False
    if size.target is operator.getitem:
        shape, index = size.args
        return bool(index == 0) and isinstance(shape, fx.Node) and shape.args[0] is x
    return bool(size.target == "size" and (*size.args, size.kwargs.get("dim"))[:2] == (x, 0))
