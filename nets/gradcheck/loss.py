"""The gradient of a loss: its dz against autograd of its value."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nets.gradcheck.report import Row


def value(loss: Any) -> Callable[[Tensor, Any], Tensor]:
    """(z, target) -> the loss () as autograd can differentiate it.

    That is `torch_loss`, unless a subclass has redefined the loss itself below it, or it has none: then it is
    the loss's own value.
    """
    call, torch_loss = (_owner(type(loss), name) for name in ("__call__", "torch_loss"))
    if torch_loss and call and issubclass(torch_loss, call):
        return loss.torch_loss
    return lambda z, target: loss(z, target)[0]


def _owner(cls: type, method: str) -> type | None:
    return next((c for c in cls.__mro__ if method in vars(c)), None)


def loss_row(loss: Any, y: Tensor, dy: Tensor, target: Tensor | None) -> Row:
    """The row of the loss's own gradient."""
    z = y.detach().clone().requires_grad_()
    (dz,) = torch.autograd.grad(value(loss)(z, target), z)
    name = getattr(loss, "__name__", type(loss).__name__)
    return Row.of(f"loss ({name})", "dy", dy, dz, y.dtype, terms=y.shape[-1])
