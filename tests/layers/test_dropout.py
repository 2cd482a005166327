"""Facts of Dropout: how many numbers it drops, and which probabilities it takes."""

import pytest
import torch
from torch import nn

from nets.common.errors import Unsupported
from nets.gradcheck import check
from nets.layers.containers import Sequential
from nets.layers.dropout import Dropout
from nets.layers.registry import Mode
from tests.helpers import DEVICES, check_layer


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("p", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_dropout_divides_what_it_keeps_by_the_share_kept(p, training, device):
    def function(x, params, buffers, training):
        if not training:
            return x * 1
        if p == 1:
            return x * 0
        return torch.where(torch.rand_like(x, dtype=torch.float32) >= p, x / (1 - p), 0)

    x = torch.randn(50, 20, dtype=torch.float64, device=device)
    check_layer(Dropout(p).train(training), x, function)


def test_dropout_drops_its_share_and_keeps_the_mean():
    y, _ = Dropout(0.3).forward(torch.ones(100_000))
    assert abs((y == 0).double().mean() - 0.3) < 0.01
    assert abs(y.mean() - 1) < 0.01
    assert Dropout().p == 0.5
    for p in (1.5, -0.5):
        with pytest.raises(ValueError, match="probability"):
            Dropout(p)


def test_a_call_follows_the_mode_or_does_nothing():
    call = Dropout.torch_calls["dropout"]
    module, other = call(None, training=Mode(True)), call(None, 0.3, Mode(False), True)
    assert (module.p, module.inplace, other.p, other.inplace) == (0.5, False, 0.3, True)
    assert type(call(None, 0.3, False)) is nn.Identity
    with pytest.raises(Unsupported, match="drops in evaluation too"):
        call(None, 0.3)


def test_a_draw_of_exactly_p_is_kept(monkeypatch):
    """So that p = 0, where 0 may be drawn, drops nothing."""
    monkeypatch.setattr(torch, "rand_like", torch.zeros_like)
    assert torch.equal(Dropout(0.0).forward(torch.ones(3))[0], torch.ones(3))


def test_the_reference_keeps_a_draw_of_exactly_p_too(monkeypatch):
    monkeypatch.setattr(torch, "rand_like", torch.zeros_like)
    assert torch.equal(Dropout(0.0).to_reference()(torch.ones(3)), torch.ones(3))


@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_the_reference_draws_as_often_as_the_layer(p):
    """Else a layer behind it would drop other numbers than its own reference."""
    layer, x = Dropout(p), torch.randn(40)
    torch.manual_seed(0)
    y, state = layer(torch.ones(40)), torch.get_rng_state()
    torch.manual_seed(0)
    assert torch.equal(layer.to_reference()(torch.ones(40)), y) and torch.equal(torch.get_rng_state(), state)
    assert check(Sequential(Dropout(p), Dropout(0.5)), x.double()[None]).ok
