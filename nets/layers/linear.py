"""Linear: every output a weighted sum of every input. Flatten: pictures into rows of numbers."""

import math

import torch
from torch import Tensor

from nets.common.errors import BatchError
from nets.layers.base import Layer, sum_dtype, uniform
from nets.layers.init import restart


class Linear(Layer):
    """y = x Wᵀ + b, with x (…, inputs), W (outputs, inputs), b (outputs), y (…, outputs).

    y_no = Σ_i x_ni W_oi + b_o, so by the chain rule

        dx_ni = Σ_o dy_no W_oi   ->  dx = dy W
        dW_oi = Σ_n dy_no x_ni   ->  dW = dyᵀ x
        db_o  = Σ_n dy_no

    The lecture's threshold T is −b: a weight on an input that is always −1. Weights start
    uniform in ±spread, by default 1/√inputs, or as std and bias_start say (see start.py).
    Source: Rumelhart, Hinton and Williams 1986.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias: bool = True,
        spread: float | None = None,
        std: float | None = None,
        bias_start: float | None = None,
    ):
        super().__init__()
        if min(inputs, outputs) < 1:
            raise ValueError(f"inputs and outputs must be at least 1, not {inputs} and {outputs}")
        spread = 1 / math.sqrt(inputs) if spread is None else spread
        self.params["weight"] = uniform((outputs, inputs), spread)
        if bias:
            self.params["bias"] = uniform((outputs,), spread)
        restart(self.params, std, bias_start)

    def forward(self, x: Tensor):
        w = self.params["weight"].to(x.dtype)
        b = self.params["bias"].to(x.dtype) if "bias" in self.params else None
        return torch.nn.functional.linear(x, w, b), x

    def backward(self, saved, dy: Tensor):
        x, w = saved, self.params["weight"]
        dx = dy @ w.to(dy.dtype) if self.input_grad else None  # (…, O)(O, I) -> (…, I)
        rows = dy.reshape(-1, dy.shape[-1])  # (N, O)
        grads = {"weight": (rows.T @ x.reshape(-1, x.shape[-1])).to(w.dtype)}  # (O, N)(N, I)
        if "bias" in self.params:
            grads["bias"] = rows.sum(0, dtype=sum_dtype(dy)).to(w.dtype)
        return dx, grads


class Flatten(Layer):
    """(N, C, H, W) -> (N, C·H·W). No arithmetic, so backward only puts the shape back."""

    def forward(self, x: Tensor):
        if x.dim() < 2:
            raise BatchError(f"Flatten takes samples (N, …), not {tuple(x.shape)}")
        return x.flatten(1), x.shape

    def backward(self, saved, dy: Tensor):
        return dy.reshape(saved), {}
