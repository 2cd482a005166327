"""The modules and calls of torch that from_torch converts. The layers list theirs."""

import operator
from collections.abc import Callable

import torch
from torch import fx, nn
from torch.nn import functional as F

from nets.layers import LAYERS
from nets.layers.base import Layer


def modules() -> dict[type[nn.Module], Callable[[nn.Module], Layer | None]]:
    """Class of a module -> function that makes the layer, or None for y = x.

    Subclasses of these classes aren't included: they may compute something else.
    """
    found = {kind: cls.from_torch for cls in LAYERS.values() for kind in cls.torch_types}
    return {nn.Identity: lambda module: None, **found}


def memory_sharing_modules() -> set[type[nn.Module]]:
    """The modules whose y can share the memory of x."""
    return {nn.Identity} | {
        kind for cls in LAYERS.values() if cls.torch_shares_memory for kind in cls.torch_types
    }


def calls() -> dict[str, Callable[..., nn.Module]]:
    """Name of a call in a forward -> function of its arguments that makes the equivalent module."""
    same = dict.fromkeys(("contiguous", "clone"), lambda x, memory_format=None: nn.Identity())
    return same | {name: make for cls in LAYERS.values() for name, make in cls.torch_calls.items()}


def tensor_calls() -> dict[str, Callable[..., nn.Module]]:
    """The same for calls with parameters of the forward's own."""
    return {name: make for cls in LAYERS.values() for name, make in cls.torch_tensor_calls.items()}


def inplace_calls() -> set[str]:
    """Names of the calls that write to their first argument."""
    return {name for cls in LAYERS.values() for name in cls.torch_inplace_calls}


def call_name(node: fx.Node) -> str:
    """torch's name of the function or method that a node calls, "" for other nodes."""
    if not node.op.startswith("call_") or node.op == "call_module":
        return ""
    if not callable(node.target):
        return node.target
    name = getattr(node.target, "__name__", str(node.target))
    known = any(getattr(home, name, None) is node.target for home in (torch, F, operator))
    return name if known else f"{getattr(node.target, '__module__', '')}.{name}"
