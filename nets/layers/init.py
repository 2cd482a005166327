"""Initial values: uniform by default, optionally Gaussian for weights and constant for biases."""

import torch
from torch import Tensor


def uniform(shape: tuple[int, ...], bound: float) -> Tensor:
    """A float32 tensor, uniform in ±bound, from torch's global generator."""
    return (torch.rand(shape) * 2 - 1) * bound


def init_gaussian(params: dict[str, Tensor], std: float | None = None, bias: float | None = None):
    """Redraw params["weight"] with mean 0 and standard deviation std, and fill params["bias"] with bias.

    None leaves a tensor unchanged. With a bias of 1, the ReLUs behind a layer have a gradient from the
    first step on. ValueError if std is negative, or if a bias is given and the layer has none.
    Source: Krizhevsky, Sutskever and Hinton 2012, section 5.
    """
    if std is not None:
        if std < 0:
            raise ValueError(f"init_std must be at least 0, not {std}")
        params["weight"].normal_(0, std)
    if bias is not None:
        if "bias" not in params:
            raise ValueError("init_bias is for a layer that has a bias")
        params["bias"].fill_(bias)
