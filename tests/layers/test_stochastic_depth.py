"""StochasticDepth: whole samples are dropped, as torchvision drops them."""

import pytest
import torch
import torchvision
from torch import nn

from nets.common.errors import Unsupported
from nets.convert.from_torch import from_torch
from nets.layers.registry import Mode
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


def test_a_call_follows_the_mode_or_does_nothing():
    (call,) = StochasticDepth.torch_calls.values()
    module = call(None, 0.3, "batch", Mode(True))
    assert (module.p, module.mode) == (0.3, "batch") and type(call(None, 0.3, "row", False)) is nn.Identity
    for training in ({}, {"training": True}):
        with pytest.raises(Unsupported, match="drops in evaluation too"):
            call(None, 0.3, "row", **training)
    assert repr(StochasticDepth()) == "StochasticDepth(p=0.5, mode='row')"


@pytest.mark.parametrize("mode", ["row", "batch"])
@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_the_modules_draws_are_the_layers(mode, p):
    layer, x = StochasticDepth(p, mode), torch.randn(20, 3, 2)
    torch.manual_seed(0)
    y = layer(x)
    torch.manual_seed(0)
    assert torch.equal(layer.to_torch()(x), y) and torch.equal(layer.to_torch().eval()(x), x)


def test_what_is_no_probability_or_mode_is_refused():
    for options in (dict(p=1.5), dict(p=-0.1), dict(mode="column")):
        with pytest.raises(ValueError, match="p is a probability and mode"):
            StochasticDepth(**options)
