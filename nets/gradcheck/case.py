"""A case: one thing to check, on what input, and with which loss."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nets.layers.base import Layer


@dataclass
class Case:
    """One thing to check: a layer, on what, and the loss that ends it if there is one."""

    name: str
    layer: Layer
    x: Tensor
    loss: object = None
    target: Tensor | None = None
    tolerant: bool = field(default=False)  # an error in it is its author's, and told in one line
    module: nn.Module | None = None  # what the layer was made from, if from_torch made it

    def to(self, where: torch.device, dtype: torch.dtype) -> "Case":
        """The same case elsewhere: numbers in dtype, parameters in float32 at least."""
        self.layer.to(where, torch.promote_types(dtype, torch.float32))
        target = self.target
        if target is not None:
            target = target.to(where, dtype if target.is_floating_point() else target.dtype)
        x = self.x.to(where, dtype)
        if self.module is not None:
            self.module.to(where, torch.promote_types(dtype, torch.float32))
        return Case(self.name, self.layer, x, self.loss, target, self.tolerant, self.module)
