"""Linear: every output is a weighted sum of all inputs. Flatten: an image becomes a row of numbers."""

import math

import torch
from torch import Tensor, nn

from nets.common.errors import BatchError, Unsupported
from nets.layers.base import Layer, SavesInput, sum_dtype
from nets.layers.checks import check_dy
from nets.layers.init import init_gaussian, uniform
from nets.layers.registry import register, require


class LinearModule(nn.Linear):
    """nn.Linear that converts its weights to the dtype of x."""

    def forward(self, x: Tensor) -> Tensor:
        b = None if self.bias is None else self.bias.to(x.dtype)
        return nn.functional.linear(x, self.weight.to(x.dtype), b)


def _linear(x, weight, bias=None):
    """The module for F.linear with parameters of the forward's own."""
    if not isinstance(weight, nn.Parameter) or weight.dim() != 2:
        raise Unsupported("linear with a weight that is no parameter (O, I)")
    module = nn.Linear(weight.shape[1], weight.shape[0])
    module.weight, module.bias = weight, bias  # type: ignore[assignment]
    return module


@register
class Linear(SavesInput, Layer):
    """y = x Wᵀ + b, with x (…, I), W (O, I), b (O), y (…, O), where I = in_features and O = out_features.

    y_no = Σ_i x_ni W_oi + b_o, so by the chain rule

        dx_ni = Σ_o dy_no W_oi   ->  dx = dy W
        dW_oi = Σ_n dy_no x_ni   ->  dW = dyᵀ x
        db_o  = Σ_n dy_no

    The threshold T of MIT 6.034's lecture 12a is −b: the weight of an input that is always −1.
    Weights and biases start uniform in ±init_bound, by default ±1/√I, or as init_std and init_bias say
    (see init.py). ValueError if a number of features is below 1.
    Source: Rumelhart, Hinton and Williams 1986.
    """

    inferred = {"in_features": -1}
    examples = [
        ((5, 6), dict(in_features=6, out_features=3)),
        ((2, 3, 6), dict(in_features=6, out_features=3, bias=False)),
    ]
    torch_types = (nn.Linear, LinearModule)
    torch_tensor_calls = {"linear": _linear}

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        init_bound: float | None = None,
        init_std: float | None = None,
        init_bias: float | None = None,
    ):
        super().__init__()
        if min(in_features, out_features) < 1:
            raise ValueError(f"features must be at least 1, not {in_features} -> {out_features}")
        self.in_features, self.out_features = in_features, out_features
        bound = 1 / math.sqrt(in_features) if init_bound is None else init_bound
        self.params["weight"] = uniform((out_features, in_features), bound)
        if bias:
            self.params["bias"] = uniform((out_features,), bound)
        init_gaussian(self.params, init_std, init_bias)

    def forward(self, x: Tensor):
        w = self.params["weight"].to(x.dtype)
        b = self.params["bias"].to(x.dtype) if "bias" in self.params else None
        return torch.nn.functional.linear(x, w, b), x

    def backward(self, saved, dy: Tensor, input_grad: bool = True):
        x, w = saved, self.params["weight"]
        check_dy(self, dy, (*x.shape[:-1], len(w)))
        dx = dy @ w.to(dy.dtype) if input_grad else None  # (…, O)(O, I) -> (…, I)
        rows = dy.reshape(-1, dy.shape[-1])  # (N, O)
        grads = {"weight": (rows.T @ x.reshape(-1, x.shape[-1])).to(w.dtype)}  # (O, N)(N, I)
        if "bias" in self.params:
            grads["bias"] = rows.sum(0, dtype=sum_dtype(dy)).to(w.dtype)
        return dx, grads

    def to_torch(self, **_):
        return LinearModule(self.in_features, self.out_features, "bias" in self.params)

    @classmethod
    def from_torch(cls, module):
        return cls(module.in_features, module.out_features, module.bias is not None)


@register
class Flatten(Layer):
    """x (N, C, H, W) -> y (N, C·H·W), or any x (N, …). Backward only restores the shape."""

    elementwise = True
    examples = [((3, 4, 7, 8), {})]
    torch_types = (nn.Flatten,)
    torch_calls = {
        "flatten": lambda x, start_dim=0, end_dim=-1: nn.Flatten(start_dim, end_dim),
    }
    torch_shares_memory = True

    def forward(self, x: Tensor):
        if x.dim() < 2:
            raise BatchError(f"Flatten takes samples (N, …), not {tuple(x.shape)}")
        return x.flatten(1), x.shape

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, (saved[0], saved[1:].numel()))
        return dy.reshape(saved), {}

    def to_torch(self, **_):
        return nn.Flatten(1)

    @classmethod
    def from_torch(cls, module):
        require(module, start_dim=1, end_dim=-1)
        return cls()
