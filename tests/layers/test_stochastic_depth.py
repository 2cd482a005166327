"""StochasticDepth: whole samples are dropped, as torchvision drops them."""

import pytest
import torch
import torchvision

from nets.convert.from_torch import from_torch
from nets.layers.stochastic_depth import StochasticDepth


@pytest.mark.parametrize("mode", ["row", "batch"])
@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_the_draws_are_torchvisions(mode, p):
    module, x = torchvision.ops.StochasticDepth(p, mode), torch.randn(20, 3, 2, 2)
    layer = from_torch(module)
    assert type(layer) is StochasticDepth and repr(layer) == f"StochasticDepth(p={p}, mode='{mode}')"
    torch.manual_seed(0)
    y, saved = layer.forward(x)
    torch.manual_seed(0)
    assert torch.allclose(y, module(x))
    dx, _ = layer.backward(saved, x)
    assert torch.equal(dx, y)
    assert torch.equal(from_torch(module.eval())(x), x)


def test_half_of_the_samples_are_dropped_and_the_others_are_larger():
    y, _ = StochasticDepth(0.5).forward(torch.ones(1000, 2))
    assert set(y.unique().tolist()) == {0.0, 2.0} and 400 < (y[:, 0] == 0).sum() < 600
    assert torch.equal(y[:, 0], y[:, 1])


def test_what_is_no_probability_or_mode_is_refused():
    for options in (dict(p=1.5), dict(p=-0.1), dict(mode="column")):
        with pytest.raises(ValueError, match="p is a probability and mode"):
            StochasticDepth(**options)
