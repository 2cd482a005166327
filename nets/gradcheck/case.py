"""A case: one layer or net to check, with an input and, if there is one, a loss."""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

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
