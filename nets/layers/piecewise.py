"""Activations of pieces: ReLU6, LeakyReLU, Hardsigmoid, Hardswish, ELU, PReLU.

As in activations.py, dx = dy·f'(x). At a kink f' is torch's choice: the slope of the piece named first.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.common.errors import BatchError
from nets.layers.base import Layer, SavesInput, sum_dtype
from nets.layers.checks import check_dy
from nets.layers.registry import register

EXAMPLES = [((5, 6), {}), ((3, 4, 7, 8), {})]


@register
class ReLU6(Layer):
    """y = min(max(x, 0), 6), dy/dx = 0 for x <= 0 and x >= 6, else 1. saved is that mask, a byte a number.

    Source: Krizhevsky 2010, "Convolutional deep belief networks on CIFAR-10".
    """

    elementwise = True
    examples = EXAMPLES
    torch_types = (nn.ReLU6,)
    torch_calls = {"relu6": lambda x, inplace=False: nn.ReLU6(inplace)}

    def forward(self, x: Tensor):
        return F.relu6(x), (x <= 0) | (x >= 6)

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved.shape)
        return torch.where(saved, 0, dy), {}

    def to_torch(self, **_):
        return nn.ReLU6()


@register
class LeakyReLU(Layer):
    """y = x where x > 0, else a·x, so dy/dx is 1 or a; at the kink, x = 0, it is a.

    Source: Maas, Hannun and Ng 2013, "Rectifier nonlinearities improve neural network acoustic models".
    """

    elementwise = True
    examples = [((5, 6), {}), ((3, 4, 7, 8), dict(negative_slope=0.2))]
    torch_types = (nn.LeakyReLU,)
    torch_calls = {
        "leaky_relu": lambda x, negative_slope=0.01, inplace=False: nn.LeakyReLU(negative_slope, inplace),
        "leaky_relu_": lambda x, negative_slope=0.01: nn.LeakyReLU(negative_slope),
    }
    torch_inplace_calls = ("leaky_relu_",)

    def __init__(self, negative_slope: float = 0.01):
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, x: Tensor):
        return F.leaky_relu(x, self.negative_slope), x > 0

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved.shape)
        return torch.where(saved, dy, dy * self.negative_slope), {}

    def to_torch(self, **_):
        return nn.LeakyReLU(self.negative_slope)

    @classmethod
    def from_torch(cls, module):
        return cls(module.negative_slope)


class HardsigmoidModule(nn.Hardsigmoid):
    """nn.Hardsigmoid with an exact gradient in float64: torch's own has 1/6 rounded to float32 (2.14)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x + 3) / 6


@register
class Hardsigmoid(Layer):
    """y = min(max(x/6 + 1/2, 0), 1), dy/dx = 0 for x <= −3 and x >= 3, else 1/6. saved is that mask.

    In float64 nn.Hardsigmoid's gradient differs by 3e-8, because torch rounds 1/6 to float32 there.
    Source: Courbariaux, Bengio and David 2015, "BinaryConnect".
    """

    elementwise = True
    examples = EXAMPLES
    torch_types = (nn.Hardsigmoid, HardsigmoidModule)
    torch_calls = {"hardsigmoid": lambda x, inplace=False: nn.Hardsigmoid(inplace)}

    def forward(self, x: Tensor):
        return F.hardsigmoid(x), (x <= -3) | (x >= 3)

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved.shape)
        return torch.where(saved, 0, dy / 6), {}

    def to_torch(self, **_):
        return HardsigmoidModule()


@register
class Hardswish(SavesInput, Layer):
    """y = x·min(max(x + 3, 0), 6) / 6: 0 for x <= −3, x for x >= 3, else x² / 6 + x / 2.

    dy/dx = 0, 1, or x/3 + 1/2 between.
    Source: Howard et al. 2019, "Searching for MobileNetV3".
    """

    elementwise = True
    examples = EXAMPLES
    torch_types = (nn.Hardswish,)
    torch_calls = {"hardswish": lambda x, inplace=False: nn.Hardswish(inplace)}

    def forward(self, x: Tensor):
        return F.hardswish(x), x

    def output(self, saved):
        return self.forward(saved)[0]

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved.shape)
        x = saved.to(sum_dtype(saved))
        ends = torch.where(x <= -3, 0, dy)
        return torch.where((x > -3) & (x < 3), dy * (x / 3 + 0.5), ends).to(dy.dtype), {}

    def to_torch(self, **_):
        return nn.Hardswish()


@register
class ELU(SavesInput, Layer):
    """y = x where x > 0, else α·(e^x − 1), so dy/dx is 1 or α·e^x.

    Source: Clevert, Unterthiner and Hochreiter 2015, "Fast and accurate deep network learning by ELUs".
    """

    elementwise = True
    examples = [((5, 6), {}), ((3, 4, 7, 8), dict(alpha=0.5))]
    torch_types = (nn.ELU,)
    torch_calls = {"elu": lambda x, alpha=1.0, inplace=False: nn.ELU(alpha, inplace)}

    def __init__(self, alpha: float = 1.0):
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor):
        return F.elu(x, self.alpha), x

    def output(self, saved):
        return self.forward(saved)[0]

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved.shape)
        x = saved.to(sum_dtype(saved))
        return torch.where(x > 0, dy, dy * (torch.exp(x) * self.alpha)).to(dy.dtype), {}

    def to_torch(self, **_):
        return nn.ELU(self.alpha)

    @classmethod
    def from_torch(cls, module):
        return cls(module.alpha)


class PReLUModule(nn.PReLU):
    """nn.PReLU that converts its weight to the dtype of x."""

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x, self.weight.to(x.dtype))


@register
class PReLU(SavesInput, Layer):
    """y = x where x > 0, else a·x, with a trained a for all channels or for each, x (N, C, …).

    dx = dy or a·dy, and da = Σ dy·x over the places with x <= 0 that have this a.
    ValueError if num_parameters is below 1.
    Source: He et al. 2015, "Delving deep into rectifiers".
    """

    examples = [((5, 6), {}), ((3, 4, 7, 8), dict(num_parameters=4, init=0.1))]
    torch_types = (nn.PReLU, PReLUModule)

    def __init__(self, num_parameters: int = 1, init: float = 0.25):
        super().__init__()
        if num_parameters < 1:
            raise ValueError(f"num_parameters must be at least 1, not {num_parameters}")
        self.num_parameters, self.init = num_parameters, init
        self.params["weight"] = torch.full((num_parameters,), float(init))

    def _slopes(self, x: Tensor) -> Tensor:
        """a, with axes of one for all axes of x but the channels'. BatchError for other channels."""
        channels = x.shape[1] if x.dim() > 1 else 1
        if self.num_parameters not in (1, channels):
            raise BatchError(f"PReLU has {self.num_parameters} slopes, and x is {tuple(x.shape)}")
        return self.params["weight"].view(-1, *[1] * max(0, x.dim() - 2)).to(x.dtype)

    def forward(self, x: Tensor):
        self._slopes(x)
        return F.prelu(x, self.params["weight"].to(x.dtype)), x

    def backward(self, saved, dy: Tensor):
        x, weight = saved, self.params["weight"]
        check_dy(self, dy, x.shape)
        dx = torch.where(x > 0, dy, dy * self._slopes(x))
        wide = sum_dtype(x)
        terms = torch.where(x > 0, 0, dy.to(wide) * x)
        axes = [i for i in range(x.dim()) if i != 1]
        da = terms.sum() if self.num_parameters == 1 else terms.sum(axes)
        return dx, {"weight": da.reshape(weight.shape).to(weight.dtype)}

    def to_torch(self, **_):
        return PReLUModule(self.num_parameters, self.init)

    @classmethod
    def from_torch(cls, module):
        return cls(module.num_parameters, module.init)
