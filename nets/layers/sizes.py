"""Sizes that are known only when a batch comes, such as x.size(0), in the options of a layer."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}


@dataclass(frozen=True)
class Size:
    """The size of axis `dim` of a layer's input number `index`."""

    dim: int
    index: int = 0

    def of(self, xs: tuple[Tensor, ...]) -> int:
        """The number, for these inputs."""
        return xs[self.index].shape[self.dim]

    def __repr__(self) -> str:
        return f"size({self.dim})" if self.index == 0 else f"size({self.dim} of input {self.index})"


@dataclass(frozen=True)
class Computed:
    """Two sizes or numbers with +, -, *, // or % between them."""

    operation: str
    a: Any
    b: Any

    def of(self, xs: tuple[Tensor, ...]) -> int:
        """The number, for these inputs."""
        return OPERATIONS[self.operation](resolve(self.a, xs), resolve(self.b, xs))

    def __repr__(self) -> str:
        return f"({self.a!r} {self.operation} {self.b!r})"


def resolve(option: Any, xs: tuple[Tensor, ...]) -> Any:
    """An option with the numbers of these inputs in the place of its sizes."""
    if isinstance(option, (Size, Computed)):
        return option.of(xs)
    if isinstance(option, slice):
        return slice(*(resolve(part, xs) for part in (option.start, option.stop, option.step)))
    if isinstance(option, (tuple, list)):
        return type(option)(resolve(part, xs) for part in option)
    return option


def num_inputs(option: Any) -> int:
    """How many inputs a layer with this option has: one, or as many as its sizes name."""
    if isinstance(option, Size):
        return option.index + 1
    if isinstance(option, Computed):
        return max(num_inputs(option.a), num_inputs(option.b))
    if isinstance(option, slice):
        return max(num_inputs(part) for part in (option.start, option.stop, option.step))
    if isinstance(option, (tuple, list)):
        return max((num_inputs(part) for part in option), default=1)
    return 1
