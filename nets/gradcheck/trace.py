"""A trace: the inputs and results of every layer in one forward and backward of a net."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nets.common.errors import UsageError
from nets.gradcheck.one_input import OneInput
from nets.gradcheck.replay import Replay
from nets.layers.base import Layer
from nets.layers.to_module import named_layers


@dataclass
class Call:
    """One forward and its backward of one layer."""

    name: str
    layer: Layer
    replay: Replay
    state: tuple  # of replay, before the forward
    buffers: tuple[dict[str, Tensor], dict[str, Tensor]]  # copies from before and after the forward
    x: Tensor
    y: Tensor
    dy: Tensor
    dx: Tensor | None
    grads: dict[str, Tensor]


class Trace:
    """Context manager that records a Call for every layer in a net, and for the net itself.

    calls: in the order of backward. While the context is open, the layers' forward and backward are
    replaced on the instances.
    """

    def __init__(self, net: Layer):
        self.calls: list[Call] = []
        self._net = net
        self._overridden: dict[int, dict[str, Any]] = {}  # id of a layer -> its own instance attributes

    def __enter__(self):
        for name, layer in named_layers(self._net):
            if layer is self._net or not layer.constant:  # in a net, a constant has no gradient for its input
                self._watch(name, layer)
        return self

    def __exit__(self, *_):
        for _, layer in named_layers(self._net):
            for name, attribute in self._overridden.pop(id(layer), {}).items():
                delattr(layer, name)
                if attribute is not None:  # the method was replaced on the instance before, too
                    setattr(layer, name, attribute)

    def _watch(self, name: str, layer: Layer):
        forward, backward = layer.forward, layer.backward
        open_calls: list[tuple[Any, ...]] = []  # forwards without a backward so far
        replay: Replay | None = None
        self._overridden[id(layer)] = {k: vars(layer).get(k) for k in ("forward", "backward")}

        def watched_forward(*xs: Tensor):
            nonlocal replay
            replay = replay or Replay(layer, xs[0].device)
            state, before = replay.state(), copied(layer.buffers)
            y, saved = pair(name, "forward", "(y, saved)", forward(*xs))
            open_calls.append((replay, state, (before, copied(layer.buffers)), xs, y))
            return y, saved

        def watched_backward(saved, dy, **options):
            dx, grads = pair(name, "backward", "(dx, grads)", backward(saved, dy, **options))
            replay, state, buffers, xs, y = open_calls.pop()
            checked, dx0, all_grads = layer, dx, grads
            if len(xs) > 1 and layer.is_leaf() and isinstance(dx, tuple):
                checked = OneInput(layer, xs[1:], dx)
                dx0, all_grads = dx[0], checked.gradients(dx, grads)
            if len(xs) == 1 or checked is not layer:
                self.calls.append(Call(name, checked, replay, state, buffers, xs[0], y, dy, dx0, all_grads))
            return dx, grads

        layer.forward, layer.backward = watched_forward, watched_backward  # type: ignore[method-assign]


def pair(name: str, method: str, expected: str, result: Any) -> tuple:
    """The result of a layer's method. UsageError unless it is the pair that the contract asks for."""
    if isinstance(result, (tuple, list)) and len(result) == 2:
        if isinstance(result[0], Tensor) and (method == "forward" or isinstance(result[1], dict)):
            return tuple(result)
        if (
            method == "backward"
            and (result[0] is None or isinstance(result[0], tuple))
            and isinstance(result[1], dict)
        ):
            return tuple(result)
    kinds = type(result).__name__
    if isinstance(result, (tuple, list)):
        kinds += f" of {', '.join(type(part).__name__ for part in result) or 'nothing'}"
    raise UsageError(f"{name}: {method} must return {expected}, not a {kinds}")


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the tensors, by name."""
    return {k: v.clone() for k, v in tensors.items()}
