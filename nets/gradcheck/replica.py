"""Copies of layers of any kind: what is one object in the layer is one object in the copy.

A layer of one's own can hold other layers, a weight under several names, views of it, generators, or objects
that can't be copied.
"""

import copy
import types
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from nets.layers.base import Layer

ATOMS = (str, bytes, int, float, complex, bool, type(None), type, torch.dtype, torch.device, torch.Size)
FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType)


def parts(*roots: Any) -> Iterator[Any]:
    """Every object that these objects hold, and the objects themselves, each once."""
    seen, todo = set(), list(roots)
    while todo:
        part = todo.pop()
        if id(part) in seen or isinstance(part, ATOMS):
            continue
        seen.add(id(part))
        yield part
        todo += _inside(part)


def _inside(part: Any) -> Iterable[Any]:
    if isinstance(part, dict):
        return part.values()
    if isinstance(part, (list, tuple, set, frozenset)):
        return part
    if isinstance(part, types.MethodType):
        return (part.__self__,)
    if isinstance(part, (Tensor, *FUNCTIONS)):
        return ()
    return getattr(part, "__dict__", {}).values()


def replica(
    original: Any,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    instead: dict[int, Tensor] | None = None,
) -> Any:
    """A copy that shares no tensor with the original.

    dtype, device  what to convert the parameters and the floating buffers of every layer inside to
    instead        id of a tensor -> the tensor to hold in its place, and to take views of it from

    Objects that can't be copied (modules, open files) are shared with the original.
    """
    held = list(parts(original))
    owned = {id(t): t for part in held if isinstance(part, Layer) for t in tensors(part)}
    memo: dict[int, Any] = dict(instead or {})
    for part in held:
        if id(part) in memo or (isinstance(part, Tensor) and _viewed(part, owned) is not None):
            continue
        if isinstance(part, Tensor):
            convert = id(part) in owned and part.is_floating_point()
            new = part.detach().clone()
            memo[id(part)] = new.to(device or part.device, dtype if convert and dtype else part.dtype)
        elif isinstance(part, torch.Generator):
            memo[id(part)] = torch.Generator(part.device).set_state(part.get_state())
        elif not _can_be_copied(part):
            memo[id(part)] = part
    for part in held:
        if isinstance(part, Tensor) and id(part) not in memo:
            whole = _viewed(part, owned)
            start = part.storage_offset() - whole.storage_offset()
            memo[id(part)] = memo[id(whole)].as_strided(part.shape, part.stride(), start)
    return copy.deepcopy(original, memo)


def tensors(layer: Layer) -> list[Tensor]:
    """The parameters and buffers of a layer."""
    return [*getattr(layer, "params", {}).values(), *getattr(layer, "buffers", {}).values()]


def _viewed(t: Tensor, owned: dict[int, Tensor]) -> Any:
    """The tensor of a layer that t is a view of, or None."""
    if id(t) in owned or not t.numel() or t.layout != torch.strided:
        return None
    for whole in owned.values():
        dense = whole.layout == torch.strided and whole.dtype == t.dtype and whole.is_contiguous()
        if dense and whole.untyped_storage().data_ptr() == t.untyped_storage().data_ptr():
            first = t.storage_offset() - whole.storage_offset()
            last = first + sum((n - 1) * s for n, s in zip(t.shape, t.stride()))
            if 0 <= first <= last < whole.numel():
                return whole
    return None


def _can_be_copied(part: Any) -> bool:
    if isinstance(part, types.ModuleType):
        return False
    if isinstance(part, (types.FunctionType, types.MethodType)) or hasattr(part, "__deepcopy__"):
        return True
    try:
        part.__reduce_ex__(4)
    except Exception:
        return False
    return True


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal, where NaN equals NaN. Objects are compared by their attributes.

    A layer's buffers are left out. Functions count as equal, and so do objects that can't be compared.
    """
    buffers = {id(t) for part in parts(a) if isinstance(part, Layer) for t in part.buffers.values()}
    return _same(a, b, buffers)


def _same(a: Any, b: Any, known: set) -> bool:
    """known: ids of what needs no comparison, and pairs that are being compared."""
    if a is b or id(a) in known or (id(a), id(b)) in known:
        return True
    known.add((id(a), id(b)))
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.nan_to_num(7), b.nan_to_num(7))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k], known) for k in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(_same(i, j, known) for i, j in zip(a, b))
    if isinstance(a, (*FUNCTIONS, types.MethodType)) and callable(b):
        return True
    if type(a) is type(b) and (type(a).__eq__ is object.__eq__ or getattr(a, "__dict__", None)):
        first, second = dict(getattr(a, "__dict__", {})), dict(getattr(b, "__dict__", {}))
        if isinstance(a, Layer):
            for held in (first, second):
                held.pop("buffers", None)
        return first.keys() == second.keys() and all(_same(first[k], second[k], known) for k in first)
    try:
        equal = a == b
        return bool(equal.all() if hasattr(equal, "all") else equal)
    except Exception:
        return True
