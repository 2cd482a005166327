"""How the backward of a pair (forward, backward) of plain functions is called, and what it returns.

Three forms are told apart by the names of backward's parameters and by what forward returns:

    y, saved = forward(*inputs)     backward(saved, dy)      this project's layers, and jax.custom_vjp
    y = forward(*inputs)            backward(dy, *inputs)
    y = forward(*inputs)            backward(*inputs, dy)
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

from torch import Tensor
from torch.utils._pytree import tree_leaves

from nets.common.errors import UsageError

GRADIENT = ("dy", "dout", "dz", "dl", "do", "g", "grad", "upstream", "cotangent", "delta", "ct", "v", "gy")
SAVED = ("saved", "cache", "ctx", "context", "res", "residual", "tape", "memo", "state")


def _is_gradient(name: str) -> bool:
    name = name.lower().strip("_")
    return name in GRADIENT or name.startswith(("grad", "dy", "dout", "upstream", "cotan"))


def _is_saved(name: str) -> bool:
    return name.lower().strip("_").startswith(SAVED)


def _positional(f: Callable) -> list[str]:
    """The names of a function's positional parameters; [] if it shows none."""
    try:
        params = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in params if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


class Pair:
    """A forward and a backward.

    form  how backward is called, for the report; known after the first forward
    """

    def __init__(self, forward: Callable, backward: Callable):
        self.forward, self.backward, self.form = forward, backward, ""

    def saves(self, returned: Any) -> bool:
        """Whether what forward returned is (y, saved)."""
        names = _positional(self.backward)
        if not (isinstance(returned, tuple) and len(returned) == 2) or len(names) != 2:
            return False
        return any(map(_is_saved, names)) or not _is_gradient(names[0]) or not tree_leaves(returned[1])

    def outputs(self, returned: Any) -> Any:
        """y of what forward returned."""
        return returned[0] if self.saves(returned) else returned

    def gradients(self, returned: Any, dy: Any, args: Sequence, kwargs: dict) -> Any:
        """What backward returns."""
        names = _positional(self.backward)
        if self.saves(returned):
            if _is_gradient(names[0]) and not _is_gradient(names[1]):
                self.form = "backward(dy, saved)"
                return self.backward(dy, returned[1])
            self.form = "backward(saved, dy)"
            return self.backward(returned[1], dy)
        where = [i for i, name in enumerate(names[: len(args) + 1]) if _is_gradient(name)]
        if where and where[-1] == len(args) and 0 not in where:
            self.form = "backward(*inputs, dy)"
            return self.backward(*args, dy, **kwargs)
        self.form = "backward(dy, *inputs)"
        return self.backward(dy, *args, **kwargs)


def assign(
    returned: Any, args: Sequence, kwargs: dict, names: dict[str, int], where: Sequence[list[int]]
) -> dict[int, Any]:
    """Number of an input's leaf -> its gradient, from what a pair's backward returned.

    names  of the leaves -> their numbers
    where  lists of leaves that the gradients may be of, if there isn't one for every leaf

    backward may return one gradient, one for every input, one for every floating input, a dict by name, the
    structure of the inputs, or (dx, dict), as a layer does.
    """
    by_name: dict[int, Any] = {}
    if isinstance(returned, tuple) and len(returned) == 2 and _names_inputs(returned[1], names):
        by_name = {names[k]: g for k, g in returned[1].items()}
        returned, where = returned[0], [[i for i in some if i not in by_name] for some in where]
    if _names_inputs(returned, names):
        return by_name | {names[k]: g for k, g in returned.items()}
    found = tree_leaves(returned)
    if len(found) in (len(tree_leaves((list(args), kwargs))), len(tree_leaves(list(args)))) and not by_name:
        return dict(enumerate(found))
    given = [g for g in found if g is not None]
    for some in where:
        if len(given) == len(some):
            return by_name | dict(zip(some, given))
    raise UsageError(f"backward returned {len(given)} gradients for {len(where[-1])} floating inputs")


def _names_inputs(returned: Any, names: dict[str, int]) -> TypeGuard[dict[str, Any]]:
    return isinstance(returned, dict) and set(returned) <= set(names)


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor that a gradient exists for."""
    return isinstance(value, Tensor) and value.is_floating_point()
