"""Initial values of weights and biases."""

import pytest
import torch

from nets.layers.conv import Conv2d
from nets.layers.init import init_gaussian
from nets.layers.linear import Linear


@pytest.mark.parametrize("make", [lambda: Linear(100, 400), lambda: Conv2d(8, 400, (5, 5), groups=2)])
def test_initial_values_are_uniform_up_to_one_over_the_root_of_the_inputs(make):
    layer = make()
    for w in layer.params.values():
        assert -0.1 <= w.min() < -0.097 and 0.097 < w.max() <= 0.1
    assert abs(layer.params["weight"].mean()) < 1e-3


@pytest.mark.parametrize("make", [lambda **o: Linear(100, 400, **o), lambda **o: Conv2d(4, 400, 5, **o)])
def test_init_std_draws_weights_from_a_gaussian_and_init_bias_sets_biases(make):
    w, b = make(init_std=0.02, init_bias=0.7).params.values()
    assert abs(w.std() - 0.02) < 1e-3 and abs(w.mean()) < 1e-3 and w.abs().max() > 0.06
    assert torch.equal(b, torch.full((400,), 0.7))
    w, b = make(init_bias=0.0).params.values()
    assert 0.097 < w.abs().max() <= 0.1 and not b.any()
    w, b = make(init_std=3.0).params.values()
    assert abs(w.std() - 3) < 0.1 and 0.09 < b.abs().max() <= 0.1


@pytest.mark.parametrize("make", [lambda **o: Linear(4, 4, **o), lambda **o: Conv2d(4, 4, 1, **o)])
def test_init_options_that_cannot_be_met_are_refused(make):
    with pytest.raises(ValueError, match="init_std must be at least 0, not -1"):
        make(init_std=-1)
    assert not make(init_std=0.0).params["weight"].any()
    with pytest.raises(ValueError, match="init_bias is for a layer that has a bias"):
        make(init_bias=1.0, bias=False)


def test_init_bound_sets_the_range_of_a_linear_layer():
    for t in Linear(100, 400, init_bound=2.0).params.values():
        assert 1.9 < t.abs().max() <= 2


@pytest.mark.parametrize("groups", [1, 2])
def test_init_dirac_passes_the_input_through(groups):
    layer = Conv2d(4, 12, 3, padding=1, bias=False, init_dirac=True, groups=groups)
    x = torch.randn(2, 4, 5, 6)
    y, _ = layer.forward(x)
    copies = torch.cat([block[:, : 4 // groups] for block in y.chunk(groups, 1)], 1)
    torch.testing.assert_close(copies, x)
    assert not torch.equal(
        y[:, 4 // groups : 12 // groups], torch.zeros_like(y[:, 4 // groups : 12 // groups])
    )


def test_init_dirac_is_1_in_the_middle_of_the_filter():
    w = Conv2d(2, 3, (5, 7), init_dirac=True).params["weight"]
    want = torch.zeros(2, 2, 5, 7)
    want[0, 0, 2, 3] = want[1, 1, 2, 3] = 1
    assert torch.equal(w[:2], want) and w[2].count_nonzero() == 70


def test_init_gaussian():
    params = {"weight": torch.ones(300, 300), "bias": torch.ones(3)}
    init_gaussian(params)
    assert params["weight"].min() == params["bias"].min() == 1
    init_gaussian(params, 0.0, 2)
    assert not params["weight"].any() and params["bias"].tolist() == [2, 2, 2]
    init_gaussian(params, 3.0)
    assert abs(params["weight"].std() - 3) < 0.05 and params["bias"].tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match="init_std must be at least 0"):
        Linear(2, 2, init_std=-1.0)
    with pytest.raises(ValueError, match="init_bias is for a layer that has a bias"):
        Linear(2, 2, bias=False, init_bias=1.0)
