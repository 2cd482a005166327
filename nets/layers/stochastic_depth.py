"""Stochastic depth: in training whole samples of a branch are dropped."""

import torch
from torch import Tensor, nn

from nets.common.errors import Unsupported
from nets.layers.base import Layer
from nets.layers.checks import check_dy
from nets.layers.registry import Mode, register


def _noise(x: Tensor, p: float, mode: str) -> Tensor:
    """0 with probability p, else 1 / (1 − p), for each sample or for all. Drawn as torchvision draws."""
    shape = [x.shape[0] if mode == "row" else 1] + [1] * (x.dim() - 1)
    noise = torch.empty(shape, dtype=x.dtype, device=x.device).bernoulli_(1 - p)
    return noise / (1 - p or 1)


class StochasticDepthModule(nn.Module):
    """StochasticDepth as a torch.nn module."""

    def __init__(self, p: float, mode: str):
        super().__init__()
        self.p, self.mode = p, mode

    def forward(self, x: Tensor) -> Tensor:
        return x * _noise(x, self.p, self.mode) if self.training and self.p else x


def _call(input, p, mode, training=True):
    """The module for torchvision's stochastic_depth(x, p, mode, self.training)."""
    if isinstance(training, Mode):
        return StochasticDepthModule(p, mode)
    if training:
        raise Unsupported("stochastic_depth that drops in evaluation too")
    return nn.Identity()


@register
class StochasticDepth(Layer):
    """In training y = x·m / (1 − p), with m = 0 with probability p, else 1. In evaluation y = x.

    mode  "row": m is drawn for each sample; "batch": once for all

    m doesn't depend on x, so dx = dy·m / (1 − p). saved is m / (1 − p), and the shape of x. m is drawn from
    torch's global generator of x's device. ValueError unless 0 ≤ p ≤ 1 and mode is one of the two.
    Source: Huang et al. 2016, "Deep networks with stochastic depth".
    """

    examples = [((5, 6), dict(p=0.3, mode="row")), ((3, 4, 7, 8), dict(p=0.6, mode="batch"))]
    torch_types = (StochasticDepthModule,)
    torch_calls = {"torchvision.ops.stochastic_depth.stochastic_depth": _call}
    torch_shares_memory = True  # in evaluation

    def __init__(self, p: float = 0.5, mode: str = "row"):
        super().__init__()
        if not 0 <= p <= 1 or mode not in ("row", "batch"):
            raise ValueError(f'p is a probability and mode "row" or "batch", not {p} and "{mode}"')
        self.p, self.mode = p, mode

    def forward(self, x: Tensor):
        if not self.training or not self.p:
            return x, (None, x.shape)
        noise = _noise(x, self.p, self.mode)
        return x * noise, (noise, x.shape)

    def backward(self, saved, dy: Tensor):
        noise, shape = saved
        check_dy(self, dy, shape)
        return (dy if noise is None else dy * noise), {}

    def to_torch(self, **_):
        return StochasticDepthModule(self.p, self.mode)

    @classmethod
    def from_torch(cls, module):
        return cls(module.p, module.mode)
