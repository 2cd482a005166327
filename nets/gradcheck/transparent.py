"""Functions whose forward autograd differentiates itself, in place of the gradient that they register.

A torch.autograd.Function hides its forward from autograd. Here forward runs with gradients on, so autograd
finds a gradient that owes nothing to the Function's backward.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.utils._pytree import tree_map


class _Context:
    """Stands for a Function's ctx in forward, and keeps what forward says about its outputs."""

    def __init__(self, args: tuple):
        self.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        self.saved_tensors: tuple = ()
        self.constant: set[int] = set()

    def save_for_backward(self, *tensors: Any):
        self.saved_tensors = tensors

    def save_for_forward(self, *tensors: Any):
        """Only for the forward mode."""

    def mark_dirty(self, *tensors: Any):
        """Autograd sees writes itself."""

    def set_materialize_grads(self, value: bool):
        """Only for backward."""

    def mark_non_differentiable(self, *tensors: Any):
        self.constant = {id(t) for t in tensors}


def apply(cls: type, *args: Any) -> Any:
    """cls.apply(*args) whose forward autograd sees."""
    context: Any = _Context(args)
    if cls.setup_context is torch.autograd.Function.setup_context:  # type: ignore[attr-defined]
        found = cls.forward(context, *args)  # type: ignore[attr-defined]
    else:
        found = cls.forward(*args)  # type: ignore[attr-defined]
        cls.setup_context(context, args, found)  # type: ignore[attr-defined]
    return tree_map(lambda t: t.detach() if id(t) in context.constant else t, found)


@contextlib.contextmanager
def transparent() -> Iterator[None]:
    """Every Function's apply that is looked up inside runs forward under autograd."""
    kept = torch.autograd.Function.__dict__.get("apply")
    torch.autograd.Function.apply = classmethod(apply)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        if kept is None:
            del torch.autograd.Function.apply
        else:
            torch.autograd.Function.apply = kept  # type: ignore[method-assign]


def visible(f: Any) -> Any:
    """f with its forward in sight, where f itself is a Function, its apply, or a custom operator."""
    owner = f if isinstance(f, type) else getattr(f, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
        return lambda *args: apply(owner, *args)
    return getattr(f, "_init_fn", f)


def registers_a_gradient(outputs: list[Tensor]) -> bool:
    """Whether the graph behind these outputs has a gradient that a person has registered."""
    seen: set = set()
    todo = [t.grad_fn for t in outputs if t.grad_fn is not None]
    while todo:
        node = todo.pop()
        if isinstance(node, BackwardCFunction):
            return True
        if node not in seen:
            seen.add(node)
            todo += [n for n, _ in node.next_functions if n is not None and n not in seen]
    return False
