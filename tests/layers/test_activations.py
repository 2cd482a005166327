"""Facts of single activations; test_gradients.py has their gradients."""

import pytest
import torch
from torch.nn import functional as F

from nets.layers.activations import GELU, ReLU, Sigmoid, SiLU, Tanh


@pytest.mark.parametrize("layer", [Sigmoid(), Tanh(), ReLU(), GELU(), GELU("tanh"), SiLU()], ids=repr)
def test_activation_of_one_number_equals_that_of_a_row_of_one(layer):
    x = torch.tensor(0.7, dtype=torch.float64)
    (y, saved), (ys, saveds) = layer.forward(x), layer.forward(x[None])
    assert torch.equal(y, ys[0])
    assert torch.equal(layer.backward(saved, x)[0], layer.backward(saveds, x[None])[0][0])


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_is_exact_or_approximated_by_tanh(approximate):
    x = torch.randn(50, dtype=torch.float64)
    y, _ = GELU(approximate).forward(x)
    assert torch.equal(y, GELU(approximate).to_torch()(x))
    assert torch.equal(y, F.gelu(x, approximate=approximate))
    assert torch.equal(y, F.gelu(x)) == (approximate == "none")


def test_gelu_refuses_another_approximation():
    with pytest.raises(ValueError, match='approximate is "none" or "tanh", not "erf"'):
        GELU("erf")


def test_relu_saves_one_byte_a_number_and_passes_an_infinite_gradient_to_its_own_place():
    x = torch.randn(1, 1, 5, 5, dtype=torch.float64)
    y, saved = ReLU().forward(x)
    assert saved.dtype == torch.bool
    dy = torch.ones_like(y)
    dy[y == y.max()] = float("inf")
    dx, _ = ReLU().backward(saved, dy)
    assert not dx.isnan().any() and (dx == float("inf")).sum() == 1


def test_relu_passes_nan_forward_and_backward():
    x = torch.tensor([float("nan"), 1.0, -1.0])
    y, saved = ReLU().forward(x)
    assert y[0].isnan()
    assert ReLU().backward(saved, torch.tensor([2.0, 3.0, 4.0]))[0].tolist() == [2.0, 3.0, 0.0]
