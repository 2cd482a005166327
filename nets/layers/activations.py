"""Activations: one number in, one number out, so backward is a product: dx = dy · f'(x).

Each saves whichever of x and y gives f' with the least to keep or to compute.
"""

import math

import torch
from torch import Tensor

from nets.layers.base import Layer, blocks, check_kernel, sum_dtype


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
        y = saved.to(sum_dtype(saved))  # rounded to bfloat16 once, at the end
        return (dy * (y * (1 - y))).to(dy.dtype), {}


class Tanh(Layer):
    """y = tanh x, dy/dx = 1 − y² = (1 − y)(1 + y): again the output alone.

    The product keeps its digits where y is near 1, when y² would be rounded first.
    """

    def forward(self, x: Tensor):
        y = torch.tanh(x)
        return y, y

    def backward(self, saved, dy: Tensor):
        y = saved.to(sum_dtype(saved))
        return (dy * ((1 - y) * (1 + y))).to(dy.dtype), {}


class ReLU(Layer):
    """y = max(x, 0), dy/dx = [x > 0]; at the kink, x = 0, the derivative is taken as 0.

    Saved is one byte a number: where x > 0 fails. NaN is let through, backward too.
    """

    def forward(self, x: Tensor):
        return torch.relu(x), x <= 0

    def backward(self, saved, dy: Tensor):
        return torch.where(saved, 0, dy), {}  # masked_fill would lose channels_last


class GELU(Layer):
    """y = x·Φ(x), with Φ the normal distribution function, Φ(x) = (1 + erf(x/√2)) / 2.

    By the product rule dy/dx = Φ(x) + x·φ(x), with φ(x) = e^(−x²/2) / √(2π) its density.
    With approximate = "tanh" a sigmoid stands for Φ: Φ(x) ≈ σ(2u) = (1 + t) / 2, where t = tanh u
    and u = √(2/π)·(x + a·x³), a = 0.044715. As dt/dx = (1 − t²)·u', its slope, in place of φ, is

        (1 + t)(1 − t)·u' / 2, with u' = √(2/π)·(1 + 3a·x²).

    kernel = "torch" is aten.gelu_backward: the same formula in one pass over the memory.
    Source: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units".
    """

    def __init__(self, approximate: str = "none", kernel: str = "reference"):
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f'approximate is "none" or "tanh", not "{approximate}"')
        self.approximate, self.kernel = approximate, check_kernel(kernel)

    def forward(self, x: Tensor):
        return torch.nn.functional.gelu(x, approximate=self.approximate), x

    def output(self, saved):
        return self.forward(saved)[0]

    def backward(self, saved, dy: Tensor):
        if self.kernel != "reference":
            return torch.ops.aten.gelu_backward(dy, saved, approximate=self.approximate), {}
        dx = torch.empty_like(dy)
        phi = self._normal if self.approximate == "none" else self._tanh
        for x, g, out in blocks(saved, dy, dx):
            x = x.to(sum_dtype(x))
            cdf, pdf = phi(x)
            out.copy_(cdf.addcmul_(x, pdf).mul_(g))
        return dx, {}

    def _normal(self, x: Tensor):
        """Φ(x) and its slope φ(x)."""
        cdf = torch.erf(x * math.sqrt(0.5)).add_(1).mul_(0.5)
        return cdf, torch.exp((x * x).mul_(-0.5)).mul_(1 / math.sqrt(2 * math.pi))

    def _tanh(self, x: Tensor):
        """What stands for Φ(x), and its slope."""
        a, b, square = 0.044715, math.sqrt(2 / math.pi), x * x
        t = torch.tanh((square * a).add_(1).mul_(x).mul_(b))
        slope = (1 - t).mul_(1 + t).mul_(square.mul_(3 * a).add_(1)).mul_(b / 2)
        return t.add_(1).mul_(0.5), slope


class SiLU(Layer):
    """y = x·σ(x). With β = σ(x), dy/dx = β + x·β(1 − β) = β·(1 + x·(1 − β)).

    kernel = "torch" is aten.silu_backward.
    Source: Elfwing, Uchibe and Doya 2017, "Sigmoid-weighted linear units".
    """

    def __init__(self, kernel: str = "reference"):
        super().__init__()
        self.kernel = check_kernel(kernel)

    def forward(self, x: Tensor):
        return torch.nn.functional.silu(x), x

    def output(self, saved):
        return self.forward(saved)[0]

    def backward(self, saved, dy: Tensor):
        if self.kernel != "reference":
            return torch.ops.aten.silu_backward(dy, saved), {}
        x = saved.to(sum_dtype(saved))
        beta = torch.sigmoid(x)
        return (dy * (beta * (1 + x * (1 - beta)))).to(dy.dtype), {}
