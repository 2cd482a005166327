"""Dropout: in training random numbers are set to 0, so that no unit depends on single others."""

import torch
from torch import Tensor, nn

from nets.common.errors import Unsupported
from nets.layers.base import Layer
from nets.layers.checks import check_dy
from nets.layers.registry import Mode, register


class SameDraws(nn.Dropout):
    """nn.Dropout that drops the same numbers as the layer if both start from the same seed."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        keep = torch.rand_like(x, dtype=torch.float32) >= self.p
        return torch.where(keep, x, 0) / (1 - self.p or 1)


def _dropout(x, p=0.5, training=True, inplace=False):
    """The module for F.dropout, which drops always, never, or as the mode says."""
    if isinstance(training, Mode):
        return nn.Dropout(p, inplace)
    if training:
        raise Unsupported("F.dropout that drops in evaluation too (training=self.training is known)")
    return nn.Identity()


@register
class Dropout(Layer):
    """In training y = x·m / (1 − p), with m = 0 with probability p and m = 1 otherwise. In evaluation y = x.

    m doesn't depend on x, so dx = dy·m / (1 − p). saved is the mask m, or in evaluation x's shape. m is drawn
    from torch's global generator of x's device. ValueError unless 0 ≤ p ≤ 1.
    Source: Srivastava et al. 2014, "Dropout", with the scale moved from test to training.
    """

    elementwise = True
    examples = [((5, 6), dict(p=0.3))]
    torch_types = (nn.Dropout, SameDraws)
    torch_calls = {"dropout": _dropout}
    torch_shares_memory = True  # in evaluation

    def __init__(self, p: float = 0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"p is a probability, not {p}")
        self.p = p
        self.scale = 0.0 if p == 1 else 1 / (1 - p)

    def forward(self, x: Tensor):
        if not self.training:
            return x, x.shape
        # drawn in float32, because bfloat16 numbers are too coarse to compare with most p
        mask = torch.rand_like(x, dtype=torch.float32) >= self.p
        return x * mask * self.scale, mask

    def backward(self, saved, dy: Tensor):
        if isinstance(saved, torch.Size):
            check_dy(self, dy, saved)
            return dy, {}
        check_dy(self, dy, saved.shape)
        return dy * saved * self.scale, {}

    def to_torch(self, **_):
        return nn.Dropout(self.p)

    def to_reference(self, **_):
        return SameDraws(self.p)

    @classmethod
    def from_torch(cls, module):
        return cls(module.p)
