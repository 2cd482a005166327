"""The checks that all layers share: the dtype of x, the shape of dy, and what `params` may hold."""

import functools
from typing import Any

import torch
from torch import Tensor

from nets.common.errors import BatchError


def takes_floats(forward):
    """Decorator of a layer's forward(x), with check_floats before it."""

    @functools.wraps(forward)
    def checked(self, x, *more, **options):
        if not x.is_floating_point():
            check_floats(self, x)
        return forward(self, x, *more, **options)

    checked.takes_floats = True  # type: ignore[attr-defined]
    return checked


def check_floats(layer: Any, x: Tensor):
    """BatchError unless x is floating-point. A layer with `takes_integers` may get whole numbers too.

    Weights are converted to the dtype of x, and a gradient has it: whole numbers would truncate both. No
    layer or loss has the formula for complex numbers.
    """
    integers = not x.is_complex() and x.dtype != torch.bool
    if x.is_floating_point() or (integers and getattr(layer, "takes_integers", False)):
        return
    name, dtype = type(layer).__name__, str(x.dtype).removeprefix("torch.")
    hint = "" if x.is_complex() else "; convert them with .float()"
    raise BatchError(f"{name} takes floating-point numbers, not {dtype}{hint}")


def check_dy(layer: Any, dy: Tensor, shape: tuple[int, ...]):
    """BatchError unless dy has the shape of y, and is floating-point. Torch would broadcast or convert it."""
    if dy.shape != shape:
        raise BatchError(f"{type(layer).__name__}: dy is {tuple(dy.shape)}, and y was {tuple(shape)}")
    if not dy.is_floating_point():
        raise BatchError(f"{type(layer).__name__}: dy must be floating-point, not {dy.dtype}")


class Tensors(dict[str, Tensor]):
    """A layer's `params` or `buffers`. TypeError for what isn't a tensor, or can't be trained."""

    def __init__(self, owner: str, trained: bool):
        super().__init__()
        self.owner, self.trained = owner, trained

    def __setitem__(self, name: str, value: Tensor):
        kind = "params" if self.trained else "buffers"
        if not isinstance(value, Tensor):
            raise TypeError(f'{self.owner}: {kind}["{name}"] is {value!r}, not a tensor; leave it out')
        if self.trained and not value.is_floating_point():
            raise TypeError(f'{self.owner}: params["{name}"] must be floating-point, not {value.dtype}')
        super().__setitem__(name, value)
