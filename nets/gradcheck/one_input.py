"""A layer with several inputs as a layer with one: the others become parameters.

What checks a layer of one input, by itself, then checks the gradient of every input.
"""

import copy

from torch import Tensor, nn

from nets.layers.base import Layer, run_backward


def of_net(layer: Layer) -> Layer:
    """The layer that a net has, which a OneInput may stand for."""
    return layer.layer if isinstance(layer, OneInput) else layer


class OneInput(Layer):
    """layer(x, x_1, x_2, …) as a layer of x, with the parameters "input 1", "input 2", …

    dxs: the gradients that the layer gave its inputs. An input whose gradient is None, because only its size
    is used, stays as it is.
    """

    def __init__(self, layer: Layer, others: tuple[Tensor, ...], dxs: tuple[Tensor | None, ...]):
        self.layer, self.others, self.training = layer, others, layer.training
        self.names = [None if dx is None else f"input {i}" for i, dx in enumerate(dxs)][1:]
        inputs = {name: t for name, t in zip(self.names, others, strict=True) if name}
        self.params, self.buffers = {**layer.params, **inputs}, layer.buffers
        self.has_torch = layer.has_torch  # type: ignore[method-assign]

    def _layer(self) -> Layer:
        """The layer with this one's tensors, which autograd may have put in the place of the layer's."""
        layer = copy.copy(self.layer)
        layer.params = {name: self.params[name] for name in self.layer.params}
        layer.buffers = self.buffers
        return layer

    def forward(self, x: Tensor):
        others = (self.params[name] if name else t for name, t in zip(self.names, self.others))
        return self._layer().forward(x, *others)

    def backward(self, saved, dy: Tensor):
        dxs, grads = run_backward(self._layer(), saved, dy)
        return dxs[0], self.gradients(dxs, grads)

    def gradients(self, dxs, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        """The gradients of the layer's parameters and of its other inputs."""
        return {**grads, **{name: dx for name, dx in zip(self.names, dxs[1:]) if name}}

    def to_torch(self, **_):
        return _OneInputModule(self.layer.to_torch(), self.names, self.others)

    def to_reference(self, **_):
        return _OneInputModule(self.layer.to_reference(), self.names, self.others)

    def __repr__(self):
        return repr(self.layer)


class _OneInputModule(nn.Module):
    """OneInput as a torch.nn module: the layer's module, with the other inputs as parameters."""

    module: nn.Module

    def __init__(self, module: nn.Module, names: list[str | None], others: tuple[Tensor, ...]):
        super().__init__()
        self.__dict__["module"] = module  # not a submodule: its tensors are this module's
        self._parameters, self._buffers = dict(module._parameters), module._buffers
        self.names, self.others = names, list(others)

    def train(self, mode: bool = True):
        """Set the mode of the layer's module, too."""
        self.module.train(mode)
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.module._parameters:
            self.module._parameters[name] = self._parameters[name]
        others = (self._parameters[name] if name else t for name, t in zip(self.names, self.others))
        return self.module(x, *others)
