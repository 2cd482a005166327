"""A trace: what every layer of a net got and gave, so that each can be looked at alone."""

from dataclasses import dataclass, field

from torch import Tensor

from nets.common.device import generator_state
from nets.layers.base import Layer
from nets.layers.to_module import named_layers


@dataclass
class Call:
    """What one layer got and gave in one forward and its backward."""

    name: str
    layer: Layer
    draws: Tensor  # the state of the random numbers before
    buffers: tuple[dict, dict]  # the layer's, before and after the forward
    x: Tensor
    y: Tensor
    dy: Tensor | None = None
    dx: Tensor | None = None
    grads: dict = field(default_factory=dict)


class Trace:
    """Watch a net work: what every layer in it got and gave, in the order of backward."""

    def __init__(self, net):
        self.calls: list[Call] = []  # one each backward
        self._net, self._own = net, {}

    def __enter__(self):
        for name, layer in named_layers(self._net):
            self._watch(name, layer)
        return self

    def __exit__(self, *_):
        for _, layer in named_layers(self._net):
            for name, own in self._own.pop(id(layer)).items():
                delattr(layer, name)  # the class's is left, or what the layer had for its own
                if own is not None:
                    setattr(layer, name, own)

    def _watch(self, name, layer):
        forward, backward, seen = layer.forward, layer.backward, []
        self._own[id(layer)] = {k: vars(layer).get(k) for k in ("forward", "backward")}

        def watched_forward(x):
            draws, before = generator_state(x.device), copied(layer.buffers)
            y, saved = forward(x)
            seen.append(Call(name, layer, draws, (before, copied(layer.buffers)), x, y))
            return y, saved

        def watched_backward(saved, dy, **options):
            dx, grads = backward(saved, dy, **options)
            call = seen.pop()
            call.dy, call.dx, call.grads = dy, dx, grads
            self.calls.append(call)
            return dx, grads

        layer.forward, layer.backward = watched_forward, watched_backward


def copied(tensors: dict) -> dict:
    return {k: v.clone() for k, v in tensors.items()}
