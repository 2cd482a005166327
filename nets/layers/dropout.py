"""Dropout: in training each number is dropped by chance, so that no node leans on another."""

import torch
from torch import Tensor

from nets.layers.base import Layer


class Dropout(Layer):
    """y = x·m / (1 − p), with m = 0 with probability p and 1 otherwise; y = x in evaluation.

    m is a constant of the forward pass, so dx = dy·m / (1 − p): the same mask again, which is
    all that is saved. It is drawn from torch's global generator of x's device.
    Source: Srivastava et al. 2014, "Dropout", with the scale moved from test to training.
    """

    def __init__(self, p: float = 0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"p is a probability, not {p}")
        self.p = p
        self.scale = 0.0 if p == 1 else 1 / (1 - p)

    def forward(self, x: Tensor):
        if not self.training:
            return x, None
        # drawn in float32: in bfloat16 the draws are too coarse for most p
        mask = torch.rand_like(x, dtype=torch.float32) >= self.p
        return x * mask * self.scale, mask

    def backward(self, saved, dy: Tensor):
        if saved is None:
            return dy, {}
        return dy * saved * self.scale, {}
