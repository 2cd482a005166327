"""Activations: elementwise functions y = f(x), so backward is an elementwise product, dx = dy · f'(x).

x, y, dy and dx all have the same shape, which may be any. Each layer saves x or y: the one from which f'
costs the least memory and computation.
"""

import math

import torch
from torch import Tensor, nn

from nets.layers.arithmetic import ScaleModule
from nets.layers.base import Layer, SavesInput, blocks, sum_dtype
from nets.layers.checks import check_dy
from nets.layers.registry import register

EXAMPLES = [((5, 6), {})]


@register
class Scale(Layer):
    """y = s·x with a constant s, so dy/dx = s.

    A small s gives later layers smaller inputs and earlier layers smaller gradients.
    """

    elementwise = True
    examples = [((5, 6), dict(factor=0.3))]
    torch_types = (ScaleModule,)

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor):
        return x * self.factor, x.shape

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved)
        return dy * self.factor, {}

    def to_torch(self, **_):
        return ScaleModule(self.factor)

    @classmethod
    def from_torch(cls, module):
        return cls(module.factor)


@register
class Sigmoid(Layer):
    """β = 1 / (1 + e^−α). The derivative depends only on the output: dβ/dα = β(1 − β).

    dβ/dα = e^−α / (1 + e^−α)² = (1 − β)·β, since e^−α / (1 + e^−α) = 1 − β.
    Source: MIT 6.034, lecture 12a, "Neural nets".
    """

    elementwise = True
    examples = EXAMPLES
    torch_types = (nn.Sigmoid,)
    torch_calls = {"sigmoid": lambda x: nn.Sigmoid()}

    def forward(self, x: Tensor):
        y = torch.sigmoid(x)
        return y, y

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved.shape)
        y = saved.to(sum_dtype(saved))  # rounded to bfloat16 once, at the end
        return (dy * (y * (1 - y))).to(dy.dtype), {}

    def to_torch(self, **_):
        return nn.Sigmoid()


@register
class Tanh(Layer):
    """y = tanh x, dy/dx = 1 − y² = (1 − y)(1 + y), which again depends only on the output.

    The product is more accurate than 1 − y² for y near ±1, because y² is rounded before the subtraction.
    """

    elementwise = True
    examples = EXAMPLES
    torch_types = (nn.Tanh,)
    torch_calls = {"tanh": lambda x: nn.Tanh()}

    def forward(self, x: Tensor):
        y = torch.tanh(x)
        return y, y

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved.shape)
        y = saved.to(sum_dtype(saved))
        return (dy * ((1 - y) * (1 + y))).to(dy.dtype), {}

    def to_torch(self, **_):
        return nn.Tanh()


@register
class ReLU(Layer):
    """y = max(x, 0), dy/dx = [x > 0]. At the kink, x = 0, the derivative is defined as 0.

    saved is the mask x <= 0, one byte per number. A NaN in x stays NaN in y, and its dy passes unchanged.
    """

    elementwise = True
    examples = EXAMPLES
    torch_types = (nn.ReLU,)
    torch_calls = {
        "relu": lambda x, inplace=False: nn.ReLU(inplace),
        "relu_": lambda x: nn.ReLU(True),
    }
    torch_inplace_calls = ("relu_",)

    def forward(self, x: Tensor):
        return torch.relu(x), x <= 0

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved.shape)
        return torch.where(saved, 0, dy), {}  # masked_fill would lose channels_last

    def to_torch(self, **_):
        return nn.ReLU()


@register
class GELU(SavesInput, Layer):
    """y = x·Φ(x), with Φ the normal distribution function, Φ(x) = (1 + erf(x/√2)) / 2.

    By the product rule dy/dx = Φ(x) + x·φ(x), where φ(x) = e^(−x²/2) / √(2π) is the density.
    With approximate = "tanh" a sigmoid approximates Φ: Φ(x) ≈ σ(2u) = (1 + t) / 2, where t = tanh u
    and u = √(2/π)·(x + a·x³), a = 0.044715. Because dt/dx = (1 − t²)·u', its derivative, which replaces φ, is

        (1 + t)(1 − t)·u' / 2, with u' = √(2/π)·(1 + 3a·x²).

    ValueError if approximate is neither "none" nor "tanh".
    Source: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units".
    """

    elementwise = True
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
        check_dy(self, dy, saved.shape)
        dx = torch.empty_like(dy)
        cdf_and_pdf = self._normal if self.approximate == "none" else self._tanh
        for x, g, out in blocks(saved, dy, dx):
            x = x.to(sum_dtype(x))
            cdf, pdf = cdf_and_pdf(x)
            out.copy_(cdf.addcmul_(x, pdf).mul_(g))
        return dx, {}

    def _normal(self, x: Tensor):
        """Φ(x) and its derivative φ(x)."""
        cdf = torch.erf(x * math.sqrt(0.5)).add_(1).mul_(0.5)
        return cdf, torch.exp((x * x).mul_(-0.5)).mul_(1 / math.sqrt(2 * math.pi))

    def _tanh(self, x: Tensor):
        """The tanh approximation of Φ(x), and its derivative."""
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

    elementwise = True
    examples = EXAMPLES
    torch_types = (nn.SiLU,)
    torch_calls = {"silu": lambda x, inplace=False: nn.SiLU(inplace)}

    def forward(self, x: Tensor):
        return torch.nn.functional.silu(x), x

    def output(self, saved):
        return self.forward(saved)[0]

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved.shape)
        x = saved.to(sum_dtype(saved))
        beta = torch.sigmoid(x)
        return (dy * (beta * (1 + x * (1 - beta)))).to(dy.dtype), {}

    def to_torch(self, **_):
        return nn.SiLU()
