"""The registry: every layer by its name, for configs, the checker, and conversion from and to torch.

Below it are the helpers with which a layer says, in `from_torch` and `torch_calls`, what it is in torch.
"""

import operator
from typing import Any, TypeVar

from torch import fx, nn

from nets.common.errors import Unsupported
from nets.layers.base import Layer

LAYERS: dict[str, type[Layer]] = {}
LayerClass = TypeVar("LayerClass", bound=type[Layer])


def register(cls: LayerClass) -> LayerClass:
    """Class decorator: make a layer known by its class name. ValueError where another has the name."""
    if LAYERS.setdefault(cls.__name__, cls) is not cls:
        raise ValueError(f"two layers are called {cls.__name__}")
    return cls


def examples(cls: type[Layer]) -> list[tuple[str, Layer, tuple[int, ...]]]:
    """(what it is, the layer, shape of its input) of each example of a layer class."""
    found = []
    for shape, options in cls.examples:
        layer = options() if callable(options) else cls(**options)
        text = "" if callable(options) else ", ".join(f"{k}={v}" for k, v in options.items())
        found.append((f"{cls.__name__}({text})", layer, shape))
    return found


def require(module: nn.Module, **options: Any):
    """Unsupported where an option of a module has another value than the layer can do."""
    for name, value in options.items():
        found = getattr(module, name)
        if found != value:
            raise Unsupported(f"{type(module).__name__} with {name}={found!r}")


def is_size(node: fx.Node) -> bool:
    """Is a node of a traced forward x.size(…), x.shape, or one of its entries? No layer makes these."""
    if node.op == "call_function" and node.target is operator.getitem:
        return isinstance(node.args[0], fx.Node) and is_size(node.args[0])
    return (node.op, node.target) == ("call_method", "size") or (
        node.op == "call_function" and node.target is getattr and node.args[1] == "shape"
    )


def is_batch_size(size: Any, x: fx.Node) -> bool:
    """Is it x's own number of samples?"""
    if not isinstance(size, fx.Node) or not is_size(size):
        return False
    if size.target is operator.getitem:
        whole, index = size.args
        return index == 0 and isinstance(whole, fx.Node) and whole.args[0] is x
    return size.target == "size" and (*size.args, size.kwargs.get("dim"))[:2] == (x, 0)
