"""Smooth activations with logarithms: Softplus and Mish."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.layers.base import Layer, SavesInput, sum_dtype
from nets.layers.checks import check_dy
from nets.layers.registry import register


@register
class Softplus(SavesInput, Layer):
    """y = log(1 + e^(β·x)) / β, so dy/dx = σ(β·x). Where β·x > threshold, y = x and dy/dx = 1.

    Source: Dugas et al. 2000, "Incorporating second-order functional knowledge".
    """

    elementwise = True
    examples = [((5, 6), {}), ((3, 4, 7, 8), dict(beta=2.0, threshold=1.0))]
    torch_types = (nn.Softplus,)
    torch_calls = {"softplus": lambda x, beta=1.0, threshold=20.0: nn.Softplus(beta, threshold)}

    def __init__(self, beta: float = 1.0, threshold: float = 20.0):
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def forward(self, x: Tensor):
        return F.softplus(x, self.beta, self.threshold), x

    def output(self, saved):
        return self.forward(saved)[0]

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved.shape)
        scaled = saved.to(sum_dtype(saved)) * self.beta
        return torch.where(scaled > self.threshold, dy, dy * torch.sigmoid(scaled)).to(dy.dtype), {}

    def to_torch(self, **_):
        return nn.Softplus(self.beta, self.threshold)

    @classmethod
    def from_torch(cls, module):
        return cls(module.beta, module.threshold)


@register
class Mish(SavesInput, Layer):
    """y = x·t with t = tanh(log(1 + e^x)). By the product and chain rules dy/dx = t + x·(1 − t²)·σ(x).

    σ(x) is the derivative of log(1 + e^x), and 1 − t² that of tanh.
    Source: Misra 2019, "Mish: a self regularized non-monotonic activation function".
    """

    elementwise = True
    examples = [((5, 6), {}), ((3, 4, 7, 8), {})]
    torch_types = (nn.Mish,)
    torch_calls = {"mish": lambda x, inplace=False: nn.Mish(inplace)}

    def forward(self, x: Tensor):
        return F.mish(x), x

    def output(self, saved):
        return self.forward(saved)[0]

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved.shape)
        x = saved.to(sum_dtype(saved))
        t = torch.tanh(F.softplus(x))
        return (dy * (t + x * ((1 - t) * (1 + t)) * torch.sigmoid(x))).to(dy.dtype), {}

    def to_torch(self, **_):
        return nn.Mish()
