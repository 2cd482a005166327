"""Activations: one number in, one number out, so backward is a product: dx = dy · f'(x).

Each saves whichever of x and y gives f' with the least to keep or to compute.
"""

import math

import torch
from torch import Tensor

from nets.layer import Layer, blocks, sum_dtype


class Scale(Layer):
    """y = s·x with s fixed, dy/dx = s: what is behind it sees smaller numbers, and moves less."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor):
        return x * self.factor, None

    def backward(self, saved, dy: Tensor):
        return dy * self.factor, {}


class Sigmoid(Layer):
    """β = 1 / (1 + e^−α). Its derivative needs the output alone: dβ/dα = β(1 − β).

    dβ/dα = e^−α / (1 + e^−α)² = (1 − β)·β, since e^−α / (1 + e^−α) = 1 − β.
    Source: MIT 6.034, lecture 12a, "Neural nets".
    """

    def forward(self, x: Tensor):
        y = torch.sigmoid(x)
        return y, y

    def backward(self, saved, dy: Tensor):
        y = saved
        return dy * (y * (1 - y)), {}


class Tanh(Layer):
    """y = tanh x, dy/dx = 1 − y² = (1 − y)(1 + y): again the output alone.

    The product keeps its digits where y is near 1, when y² would be rounded first.
    """

    def forward(self, x: Tensor):
        y = torch.tanh(x)
        return y, y

    def backward(self, saved, dy: Tensor):
        y = saved
        return dy * ((1 - y) * (1 + y)), {}


class ReLU(Layer):
    """y = max(x, 0), dy/dx = [x > 0]; at the kink, x = 0, the derivative is taken as 0.

    Saved is one byte a number: where x > 0 fails. NaN is let through, backward too.
    """

    def forward(self, x: Tensor):
        return torch.relu(x), x <= 0

    def backward(self, saved, dy: Tensor):
        return dy.masked_fill(saved, 0), {}


class GELU(Layer):
    """y = x·Φ(x), with Φ the normal distribution function, Φ(x) = (1 + erf(x/√2)) / 2.

    By the product rule dy/dx = Φ(x) + x·φ(x), with φ(x) = e^(−x²/2) / √(2π) its density.
    Source: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units".
    """

    def forward(self, x: Tensor):
        return torch.nn.functional.gelu(x), x

    def backward(self, saved, dy: Tensor):
        dx = torch.empty_like(dy)
        for x, g, out in blocks(saved, dy, dx, each=dy[:1].numel()):
            x = x.to(sum_dtype(x))
            cdf = torch.erf(x * math.sqrt(0.5)).add_(1).mul_(0.5)
            pdf = torch.exp((x * x).mul_(-0.5)).mul_(1 / math.sqrt(2 * math.pi))
            out.copy_(cdf.addcmul_(x, pdf).mul_(g))
        return dx, {}


class SiLU(Layer):
    """y = x·σ(x). With β = σ(x), dy/dx = β + x·β(1 − β) = β·(1 + x·(1 − β)).

    Source: Elfwing, Uchibe and Doya 2017, "Sigmoid-weighted linear units".
    """

    def forward(self, x: Tensor):
        return torch.nn.functional.silu(x), x

    def backward(self, saved, dy: Tensor):
        x = saved.to(sum_dtype(saved))
        beta = torch.sigmoid(x)
        return (dy * (beta * (1 + x * (1 - beta)))).to(dy.dtype), {}
