"""The parts of torch.nn that have a layer here: modules, and calls in a forward. The layers list them."""

import operator
from collections.abc import Callable

import torch
from torch import fx, nn
from torch.nn import functional as F

from nets.layers import LAYERS
from nets.layers.base import Layer


def modules() -> dict[type[nn.Module], Callable[[nn.Module], Layer | None]]:
    """Module class -> what makes the layer, or None for y = x. Exactly these: a subclass may do something else."""
    found = {kind: cls.from_torch for cls in LAYERS.values() for kind in cls.torch_types}
    return {nn.Identity: lambda module: None, **found}


def calls() -> dict[str, Callable[..., nn.Module]]:
    """Name of a call in a forward -> what makes the module that does the same."""
    return {name: make for cls in LAYERS.values() for name, make in cls.torch_calls.items()}


ADD = {"add": False, "iadd": True, "add_": True}  # does it write to what it adds to?
WRITE = ("relu_", "imul", "mul_")
# y may be x itself, or another view of it
SAME = (nn.Identity, nn.Dropout, nn.Flatten)


def call_name(node: fx.Node) -> str:
    """What a node calls, by torch's name for it."""
    if not callable(node.target):
        return node.target
    name = getattr(node.target, "__name__", str(node.target))
    known = any(getattr(home, name, None) is node.target for home in (torch, F, operator))
    return name if known else f"{getattr(node.target, '__module__', '')}.{name}"
