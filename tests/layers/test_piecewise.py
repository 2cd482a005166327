"""Activations of pieces: at their kinks, with NaN, and PReLU's slopes. The rest is in test_gradients.py."""

import pytest
import torch
from torch import nn

from nets.common.errors import BatchError
from nets.convert.from_torch import from_torch
from nets.gradcheck import compare
from nets.layers.piecewise import ELU, Hardsigmoid, Hardswish, LeakyReLU, PReLU, ReLU6
from tests.helpers import check_layer

PLAIN = [(ReLU6(), nn.ReLU6()), (LeakyReLU(0.2), nn.LeakyReLU(0.2)), (Hardswish(), nn.Hardswish())]
PLAIN += [(Hardsigmoid(), nn.Hardsigmoid()), (ELU(0.5), nn.ELU(0.5)), (PReLU(), nn.PReLU())]


@pytest.mark.parametrize("layer, module", PLAIN, ids=lambda v: type(v).__name__)
def test_at_kinks_and_beyond_the_slope_is_torchs(layer, module):
    x = torch.tensor([-torch.inf, -3.0, -0.0, 0.0, 3.0, 6.0, 7.0, torch.inf, -1.0, 2.0])
    y, saved = layer.forward(x)
    theirs = x.clone().requires_grad_()
    z = module(theirs)
    assert torch.equal(y.nan_to_num(9), z.detach().nan_to_num(9))
    (want,) = torch.autograd.grad(z.nan_to_num(0, 0, 0).sum(), theirs)
    finite = x.isfinite()
    assert torch.allclose(layer.backward(saved, torch.ones_like(y))[0][finite], want[finite], rtol=1e-6)


@pytest.mark.parametrize("layer", [ReLU6(), Hardsigmoid(), Hardswish()], ids=lambda v: type(v).__name__)
def test_a_nan_stays_nan_and_its_gradient_is_finite(layer):
    y, saved = layer.forward(torch.tensor([torch.nan]))
    assert y.isnan().all() and layer.backward(saved, torch.ones(1))[0].isfinite().all()


def test_a_slope_for_each_channel_and_other_channels_are_refused():
    layer, x = PReLU(3), torch.randn(2, 3, 4, dtype=torch.float64)
    layer.params["weight"].copy_(torch.tensor([0.1, -0.2, 0.3]))
    layer.to(torch.float64)
    module = nn.PReLU(3).double()
    module.weight.data.copy_(layer.params["weight"])
    y, saved = layer.forward(x)
    theirs = x.clone().requires_grad_()
    dy = torch.randn_like(y)
    want = torch.autograd.grad(module(theirs), [theirs, module.weight], dy)
    dx, grads = layer.backward(saved, dy)
    assert torch.allclose(dx, want[0], rtol=1e-12) and torch.allclose(grads["weight"], want[1], rtol=1e-12)
    with pytest.raises(BatchError, match=r"PReLU has 3 slopes, and x is \(2, 4\)"):
        layer.forward(torch.ones(2, 4, dtype=torch.float64))
    with pytest.raises(BatchError, match="PReLU has 2 slopes"):
        PReLU(2).forward(torch.ones(2))
    with pytest.raises(ValueError, match="at least 1"):
        PReLU(0)
    assert torch.equal(from_torch(module).params["weight"], module.weight)
    assert from_torch(nn.PReLU(init=0.5)).init == 0.5


def test_slopes_of_rows_are_torchs():
    layer, x = PReLU(4).to(torch.float64), torch.randn(5, 4, dtype=torch.float64)
    layer.params["weight"].uniform_(-1, 1)
    check_layer(layer, x)


def test_the_slopes_gradient_is_summed_in_float32():
    x, dy = torch.randn(2, 64, 32).bfloat16()
    y, saved = PReLU().forward(x)
    da = PReLU().backward(saved, dy)[1]["weight"]
    want = torch.where(x > 0, 0, x.double() * dy.double()).sum()
    assert da.dtype == torch.float32 and compare(da.double(), want[None])[1] < 1e-5
