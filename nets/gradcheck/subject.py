"""What is checked besides layers, in one form: tensors in, tensors out, and two gradients.

A subject is a torch.autograd.Function, a custom operator, a function, a module, or a pair (forward,
backward). Its inputs may be nested tuples, lists and dicts of tensors, numpy arrays, numbers and None.
"""

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_flatten_with_path, tree_leaves, tree_unflatten

from nets.common.errors import UsageError
from nets.gradcheck.pairs import Pair, assign, is_tensor
from nets.gradcheck.transparent import registers_a_gradient, transparent, visible

Grads = dict[int, Any]  # number of an input's leaf -> its gradient


class Subject:
    """A function of tensors with a gradient to check.

    values  the leaves of the inputs; numpy arrays as tensors
    names   of the leaves, for the report
    where   the numbers of the leaves that have a gradient
    required  for each leaf, whether it must have a gradient
    inputs  those of them that aren't a module's parameters
    judged  the numbers of the outputs that have a gradient; known after the first call of `manual`
    """

    def __init__(self, f: Any, args: Sequence, kwargs: dict | None = None):
        self.f, self.pair, self.module = f, None, f if isinstance(f, nn.Module) else None
        if isinstance(f, (tuple, list)):
            if len(f) != 2 or not all(map(callable, f)):
                raise UsageError("a pair must be two functions, (forward, backward)")
            self.pair = Pair(*f)
        elif not callable(f):
            raise UsageError(f"{type(f).__name__} is nothing that can be checked: it can't be called")
        self.name = _name(f)
        params = dict(self.module.named_parameters()) if self.module is not None else {}
        self.constants = {k: p for k, p in params.items() if not p.requires_grad}
        params = {k: p for k, p in params.items() if p.requires_grad}
        tree = (list(args), dict(kwargs or {}), params)
        leaves, self.spec = tree_flatten(tree)
        self.names = _names(tree, self.pair.forward if self.pair else f)
        self.arrays = [i for i, v in enumerate(leaves) if _is_array(v)]
        leaves = [torch.from_numpy(v.copy()) if _is_array(v) else v for v in leaves]
        self.values = [v.detach() if isinstance(v, Tensor) else v for v in leaves]
        self.required = [isinstance(v, Tensor) and v.requires_grad for v in leaves]
        self.where = [i for i, v in enumerate(self.values) if is_tensor(v)]
        self.floating = self.where
        self.inputs = self.where[: len(self.where) - len(params)]
        if any(self.required[i] for i in self.inputs):  # the caller has said which ones count
            self.inputs = [i for i in self.inputs if self.required[i]]
            self.where = [i for i in self.where if self.required[i]]
        self.judged: list[int] = []
        self.hand_written = self.pair is not None

    def _arguments(self, values: Sequence) -> tuple[list, dict, dict]:
        arrays = {i: values[i].detach().cpu().numpy() for i in self.arrays}
        return tree_unflatten([arrays.get(i, v) for i, v in enumerate(values)], self.spec)

    def _call(self, f: Callable, values: Sequence) -> tuple[Any, list, dict]:
        """What f returns, and the arguments that it was called with."""
        args, kwargs, params = self._arguments(values)
        if self.module is None:
            return f(*args, **kwargs), args, kwargs
        held = {k: b.clone() for k, b in self.module.named_buffers()}
        held = {k: _like(b, params) for k, b in held.items()}
        constants = {k: _like(p.detach(), params) for k, p in self.constants.items()}
        state = {**params, **constants, **held}
        return torch.func.functional_call(self.module, state, tuple(args), kwargs), args, kwargs

    def outputs(self, values: Sequence) -> list[Tensor]:
        """The outputs that are judged (all floating ones, before the first gradient), computed on copies."""
        with torch.no_grad():
            forward = self.pair.forward if self.pair else _callable(self.f)
            returned, *_ = self._call(forward, _copies(values))
        found = _tensors(self.pair.outputs(returned) if self.pair else returned)
        return [found[i].detach() for i in self.judged or _floating(found)]

    def manual(self, values: Sequence, dys: list[Tensor]) -> Grads:
        """The gradients that are checked: backward's of a pair, else those that autograd is given."""
        if self.pair:
            return self._by_pair(values, dys)
        outputs, leaves = self._graph(_callable(self.f), values)
        self.hand_written = self.hand_written or registers_a_gradient(outputs)
        return _differentiate(outputs, dys, leaves)

    def autograd(self, values: Sequence, dys: list[Tensor]) -> Grads:
        """Autograd's gradients of the forward alone; {} where it can't see the forward."""
        if not self.hand_written:
            return {}
        try:
            with transparent():
                outputs, leaves = self._graph(visible(self.pair.forward if self.pair else self.f), values)
            if not all(t.requires_grad for t in outputs):
                return {}
            if not self.pair and registers_a_gradient(outputs):
                return {}
            return _differentiate(outputs, dys, leaves)
        except Exception:
            return {}

    def find_outputs(self, values: Sequence) -> str:
        """Find the outputs that have a gradient. Returns which are left out, or ""."""
        if self.pair:
            found = _tensors(self.pair.outputs(self._call(self.pair.forward, _copies(values))[0]))
            self.judged = _floating(found)
        else:
            with torch.enable_grad():
                leaves = {i: values[i].clone().requires_grad_() for i in self.where}
                inside = [leaves[i].clone() if i in leaves else v for i, v in enumerate(_copies(values))]
                found = _tensors(self._call(_callable(self.f), inside)[0])
            self.judged = [i for i in _floating(found) if found[i].requires_grad]
        left = [i for i in range(len(found)) if i not in self.judged]
        return ", ".join(f"output {i}" for i in left) if self.judged else ""

    def _graph(self, f: Callable, values: Sequence) -> tuple[list[Tensor], dict[int, Tensor]]:
        """The judged outputs with their graph, and the leaves of it."""
        with torch.enable_grad():
            leaves = {i: values[i].clone().requires_grad_() for i in self.where}
            inside = [leaves[i].clone() if i in leaves else v for i, v in enumerate(_copies(values))]
            returned, *_ = self._call(f, inside)
        found = _tensors(self.pair.outputs(returned) if self.pair else returned)
        return [found[i] for i in self.judged], leaves

    def _by_pair(self, values: Sequence, dys: list[Tensor]) -> Grads:
        pair = self.pair
        assert pair is not None
        with torch.no_grad():
            returned, *_ = self._call(pair.forward, _copies(values))
            y = pair.outputs(returned)
            leaves, spec = tree_flatten(y)
            full = iter(dys)
            given = [_as(next(full), leaf) if i in self.judged else None for i, leaf in enumerate(leaves)]
            args, kwargs, _ = self._arguments(_copies(values))
            grads = pair.gradients(returned, tree_unflatten(given, spec), args, kwargs)
        numbers = {name: i for i, name in enumerate(self.names)}
        found = assign(grads, args, kwargs, numbers, (self.where, self.floating))
        return {i: _tensor(g) for i, g in found.items()}


def _copies(values: Sequence) -> list:
    return [v.clone() if isinstance(v, Tensor) else v for v in values]


def _callable(f: Any) -> Callable:
    return f.apply if isinstance(f, type) and issubclass(f, torch.autograd.Function) else f


def _differentiate(outputs: list[Tensor], dys: list[Tensor], leaves: dict[int, Tensor]) -> Grads:
    dys = [dy.to(y.dtype) for dy, y in zip(dys, outputs)]
    found = torch.autograd.grad(outputs, [*leaves.values()], dys, allow_unused=True)
    return {i: g for i, g in zip(leaves, found) if g is not None}


def _like(t: Tensor, params: dict[str, Tensor]) -> Tensor:
    """t in the dtype of the parameters."""
    dtypes = [p.dtype for p in params.values() if p.is_floating_point()]
    return t.to(dtypes[0]) if dtypes and t.is_floating_point() else t


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _tensor(value: Any) -> Any:
    """A numpy array or a number as a tensor; anything else as it is."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return torch.as_tensor(value)
    return torch.tensor(value, dtype=torch.float64) if isinstance(value, float) else value


def _tensors(returned: Any) -> list:
    return [_tensor(leaf) for leaf in tree_leaves(returned)]


def _floating(leaves: list) -> list[int]:
    return [i for i, leaf in enumerate(leaves) if is_tensor(leaf)]


def _as(dy: Tensor, leaf: Any) -> Any:
    """dy in the kind of an output: a tensor, a numpy array or a number."""
    if isinstance(leaf, Tensor):
        return dy.clone()
    return dy.item() if isinstance(leaf, float) else dy.numpy().copy()


def _name(f: Any) -> str:
    f = f[0] if isinstance(f, (tuple, list)) else f
    owner = getattr(f, "__self__", None)
    f = owner if isinstance(owner, type) else f
    return getattr(f, "__name__", None) or getattr(f, "_name", None) or type(f).__name__


def _parameters(f: Any) -> list[str]:
    """The names of a function's positional parameters, without ctx."""
    owner = f if isinstance(f, type) else getattr(f, "__self__", None)
    first = 0
    if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
        first = int(owner.setup_context is torch.autograd.Function.setup_context)
        f = owner.forward
    f = f.forward if isinstance(f, nn.Module) else getattr(f, "_init_fn", f)
    try:
        signature = [*inspect.signature(f).parameters.values()][first:]
    except (TypeError, ValueError):
        return []
    return [p.name for p in signature if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _names(tree: tuple, f: Any) -> list[str]:
    """A name for each leaf: that of its parameter in f's signature, and the path inside of it."""
    known, names = _parameters(f), []
    for path, _ in tree_flatten_with_path(tree)[0]:
        keys: list[Any] = [getattr(key, "idx", getattr(key, "key", "")) for key in path]
        part, first, *rest = keys
        if part == 0:
            first = known[first] if first < len(known) else f"input {first}"
        names.append(str(first) + "".join(f"[{key!r}]" for key in rest))
    return names
