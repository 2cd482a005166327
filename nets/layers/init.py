"""Initial values: uniform by default; a Gaussian for weights and a constant for biases where asked for."""

import torch
from torch import Tensor


def uniform(shape: tuple[int, ...], bound: float) -> Tensor:
    """Initial values, uniform in ±bound, from torch's global generator."""
    return (torch.rand(shape) * 2 - 1) * bound


def init_gaussian(params: dict[str, Tensor], std: float | None = None, bias: float | None = None):
    """Draw params["weight"] again, with mean 0 and deviation std, and set params["bias"]; None: leave it.

    A bias of 1 starts a layer's ReLUs where they have a gradient from the first step on.
    ValueError where there is no bias. Source: Krizhevsky, Sutskever and Hinton 2012, section 5.
    """
    if std is not None:
        if std < 0:
            raise ValueError(f"init_std must be at least 0, not {std}")
        params["weight"].normal_(0, std)
    if bias is not None:
        if "bias" not in params:
            raise ValueError("init_bias is for a layer that has a bias")
        params["bias"].fill_(bias)
