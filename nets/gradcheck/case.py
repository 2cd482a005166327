"""A case: one layer, net or function to check, with its inputs and, if there is one, a loss."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from nets.gradcheck.replica import replica
from nets.layers.base import Layer
from nets.losses import Loss


@dataclass
class Case:
    """A layer or net to check.

    name      of the case, for the report
    layer     the layer or net
    x         its input, with a leading batch axis
    loss      the loss behind it, with its target, if there is one
    external  True: the layer is a user's, and an exception in it is reported in one line
    module    the torch module that from_torch made the layer from, if it did
    backend   the kernels that it trains with, see nets.kernels
    """

    name: str
    layer: Layer
    x: Tensor
    loss: Loss | None = None
    target: Tensor | None = None
    external: bool = False
    module: nn.Module | None = None
    backend: str = "reference"

    def to(self, device: torch.device, dtype: torch.dtype) -> "Case":
        """The case on another device and in another dtype, with copies of its layer and module.

        x and a floating target get dtype. Parameters get at least float32.
        """
        weights = torch.promote_types(dtype, torch.float32)
        layer = replica(self.layer, weights, device)
        module = None if self.module is None else copy.deepcopy(self.module).to(device, weights)
        target = self.target
        if target is not None:
            target = target.to(device, dtype if target.is_floating_point() else target.dtype)
        return replace(self, layer=layer, module=module, x=self.x.to(device, dtype), target=target)

    def modes(self) -> tuple[bool, ...]:
        """Whether each of the modes to check is that of training."""
        return (True, False)

    def train(self, training: bool):
        """Set the mode."""
        self.layer.train(training)


@dataclass
class FunctionCase:
    """A function of a user's to check (see `check_function`), with its inputs."""

    name: str
    f: Any
    inputs: tuple

    def to(self, device: torch.device, dtype: torch.dtype) -> "FunctionCase":
        """The case on another device, its floating tensors and arrays in another dtype."""

        def convert(value):
            if isinstance(value, Tensor):
                new = value.detach().to(device, dtype if value.is_floating_point() else value.dtype)
                return new.requires_grad_() if value.requires_grad else new
            if hasattr(value, "astype") and value.dtype.kind == "f" and dtype != torch.bfloat16:
                return value.astype(str(dtype).removeprefix("torch."))
            return value

        f = copy.deepcopy(self.f).to(device, dtype) if isinstance(self.f, nn.Module) else self.f
        return FunctionCase(self.name, f, tree_map(convert, self.inputs))

    def modes(self) -> tuple[bool, ...]:
        """As of a Case. A function has one."""
        return (True, False) if isinstance(self.f, nn.Module) else (True,)

    def train(self, training: bool):
        """Set the mode of a module."""
        if isinstance(self.f, nn.Module):
            self.f.train(training)
