"""Softplus at its threshold. The rest is in test_gradients.py."""

import torch
from torch import nn

from nets.layers.smooth import Softplus


def test_at_the_threshold_the_slope_is_torchs():
    x = torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64)
    layer = Softplus(beta=2.0, threshold=2.0)
    y, saved = layer.forward(x)
    theirs = x.clone().requires_grad_()
    z = nn.Softplus(2.0, 2.0)(theirs)
    (want,) = torch.autograd.grad(z.sum(), theirs)
    assert torch.equal(y, z.detach()) and torch.allclose(layer.backward(saved, torch.ones_like(y))[0], want)
    assert (layer.beta, layer.threshold) == (2.0, 2.0) and (Softplus().beta, Softplus().threshold) == (
        1.0,
        20.0,
    )
