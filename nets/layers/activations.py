"""Activations: one number in, one number out, so backward is a product: dx = dy · f'(x).

Each saves whichever of x and y gives f' with the least to keep or to compute.
"""

import math

import torch
from torch import Tensor, fx, nn

from nets.common.errors import Unsupported
from nets.layers.base import Layer, SavesInput, blocks, sum_dtype
from nets.layers.registry import register

EXAMPLES = [((5, 6), {})]


class ScaleModule(nn.Module):
    """Scale as a torch.nn module."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def _mul(x, factor):
    """A product with a number, on either side."""
    if not isinstance(x, fx.Node):
        x, factor = factor, x
    if not isinstance(factor, (int, float)):
        raise Unsupported("mul of two tensors")
    return ScaleModule(float(factor))


@register
class Scale(Layer):
    """y = s·x with s fixed, dy/dx = s: later layers see smaller numbers, earlier ones smaller gradients."""

    examples = [((5, 6), dict(factor=0.3))]
    torch_types = (ScaleModule,)
    torch_calls = dict.fromkeys(("mul", "imul", "mul_"), _mul)

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor):
        return x * self.factor, None

    def backward(self, saved, dy: Tensor):
        return dy * self.factor, {}

    def to_torch(self, **_):
        return ScaleModule(self.factor)

    @classmethod
    def from_torch(cls, module):
        return cls(module.factor)


@register
class Sigmoid(Layer):
    """β = 1 / (1 + e^−α). Its derivative needs the output alone: dβ/dα = β(1 − β).

    dβ/dα = e^−α / (1 + e^−α)² = (1 − β)·β, since e^−α / (1 + e^−α) = 1 − β.
    Source: MIT 6.034, lecture 12a, "Neural nets".
    """

    examples = EXAMPLES
    torch_types = (nn.Sigmoid,)
    torch_calls = {"sigmoid": lambda x: nn.Sigmoid()}

    def forward(self, x: Tensor):
        y = torch.sigmoid(x)
        return y, y

    def backward(self, saved, dy: Tensor):
        y = saved.to(sum_dtype(saved))  # rounded to bfloat16 once, at the end
        return (dy * (y * (1 - y))).to(dy.dtype), {}

    def to_torch(self, **_):
        return nn.Sigmoid()


@register
class Tanh(Layer):
    """y = tanh x, dy/dx = 1 − y² = (1 − y)(1 + y): again the output alone.

    The product keeps its digits where y is near 1, when y² would be rounded first.
    """

    examples = EXAMPLES
    torch_types = (nn.Tanh,)
    torch_calls = {"tanh": lambda x: nn.Tanh()}

    def forward(self, x: Tensor):
        y = torch.tanh(x)
        return y, y

    def backward(self, saved, dy: Tensor):
        y = saved.to(sum_dtype(saved))
        return (dy * ((1 - y) * (1 + y))).to(dy.dtype), {}

    def to_torch(self, **_):
        return nn.Tanh()


@register
class ReLU(Layer):
    """y = max(x, 0), dy/dx = [x > 0]; at the kink, x = 0, the derivative is taken as 0.

    Saved is one byte a number: where x > 0 fails. NaN is let through, backward too.
    """

    examples = EXAMPLES
    torch_types = (nn.ReLU,)
    torch_calls = {
        "relu": lambda x, inplace=False: nn.ReLU(inplace),
        "relu_": lambda x: nn.ReLU(True),
    }

    def forward(self, x: Tensor):
        return torch.relu(x), x <= 0

    def backward(self, saved, dy: Tensor):
        return torch.where(saved, 0, dy), {}  # masked_fill would lose channels_last

    def to_torch(self, **_):
        return nn.ReLU()


@register
class GELU(SavesInput, Layer):
    """y = x·Φ(x), with Φ the normal distribution function, Φ(x) = (1 + erf(x/√2)) / 2.

    By the product rule dy/dx = Φ(x) + x·φ(x), with φ(x) = e^(−x²/2) / √(2π) its density.
    With approximate = "tanh" a sigmoid approximates Φ: Φ(x) ≈ σ(2u) = (1 + t) / 2, where t = tanh u
    and u = √(2/π)·(x + a·x³), a = 0.044715. As dt/dx = (1 − t²)·u', its slope, in place of φ, is

        (1 + t)(1 − t)·u' / 2, with u' = √(2/π)·(1 + 3a·x²).

    Source: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units".
    """

    examples = [((5, 6), dict(approximate=a)) for a in ("none", "tanh")]
    torch_types = (nn.GELU,)
    torch_calls = {"gelu": lambda x, approximate="none": nn.GELU(approximate)}

    def __init__(self, approximate: str = "none"):
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f'approximate is "none" or "tanh", not "{approximate}"')
        self.approximate = approximate

    def forward(self, x: Tensor):
        return torch.nn.functional.gelu(x, approximate=self.approximate), x

    def output(self, saved):
        return self.forward(saved)[0]

    def backward(self, saved, dy: Tensor):
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
        """The approximation of Φ(x), and its slope."""
        a, b, square = 0.044715, math.sqrt(2 / math.pi), x * x
        t = torch.tanh((square * a).add_(1).mul_(x).mul_(b))
        slope = (1 - t).mul_(1 + t).mul_(square.mul_(3 * a).add_(1)).mul_(b / 2)
        return t.add_(1).mul_(0.5), slope

    def to_torch(self, **_):
        return nn.GELU(self.approximate)

    @classmethod
    def from_torch(cls, module):
        return cls(module.approximate)


@register
class SiLU(SavesInput, Layer):
    """y = x·σ(x). With β = σ(x), dy/dx = β + x·β(1 − β) = β·(1 + x·(1 − β)).

    Source: Elfwing, Uchibe and Doya 2017, "Sigmoid-weighted linear units".
    """

    examples = EXAMPLES
    torch_types = (nn.SiLU,)
    torch_calls = {"silu": lambda x, inplace=False: nn.SiLU(inplace)}

    def forward(self, x: Tensor):
        return torch.nn.functional.silu(x), x

    def output(self, saved):
        return self.forward(saved)[0]

    def backward(self, saved, dy: Tensor):
        x = saved.to(sum_dtype(saved))
        beta = torch.sigmoid(x)
        return (dy * (beta * (1 + x * (1 - beta)))).to(dy.dtype), {}

    def to_torch(self, **_):
        return nn.SiLU()
