"""Facts of Whiten2d: what `fit` makes of pictures, and what it starts with."""

import pytest
import torch
from torch.nn import functional as F

from nets.layers.whiten import Whiten2d
from tests.helpers import DEVICES, check_layer


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kernel_size", [2, 3, (1, 2), (3, 1)])
def test_fitted_filters_have_the_gradients_of_a_convolution(kernel_size, device):
    layer = Whiten2d(3, kernel_size)
    layer.params["bias"].normal_()
    x = torch.randn(20, 3, 9, 8) + 2 * torch.randn(20, 3, 1, 1)
    layer.fit(x)
    layer.to(device, torch.float64)
    check_layer(layer, x[:3].to(layer.params["bias"]), lambda x, p, b, t: F.conv2d(x, b["weight"], p["bias"]))


def test_whitened_patches_are_uncorrelated():
    layer, x = Whiten2d(3, eps=1e-6).to(torch.float64), torch.randn(20, 3, 10, 10).cumsum(2).cumsum(1)
    assert layer.forward(x.double())[0].shape == (20, 24, 9, 9)
    layer.fit(x)
    y = layer.forward(x.double())[0].transpose(0, 1).flatten(1)
    torch.testing.assert_close(y[:12], -y[12:])
    torch.testing.assert_close(torch.cov(y[:12]), torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-3)


def test_directions_whose_variance_is_small_against_eps_are_damped():
    """Filters v / √(λ + ε) leave a variance of λ / (λ + ε); pictures may come in bfloat16."""
    layer, x = Whiten2d(1, 2, eps=0.5), torch.randn(1000, 1, 2, 2)
    x[..., 0] *= 0.1
    layer.fit(x.bfloat16())
    variances = layer.forward(x)[0][:, :4].var(0).flatten()
    want = torch.tensor([1 / 1.5, 1 / 1.5, 0.01 / 0.51, 0.01 / 0.51])
    torch.testing.assert_close(variances, want, rtol=0.1, atol=0)
    assert Whiten2d(1).eps == 5e-4
    for eps in (0, -0.1):
        with pytest.raises(ValueError, match="eps must be over 0"):
            Whiten2d(1, eps=eps)


def test_before_fit_it_gives_the_patches_as_they_are():
    x = torch.randn(2, 3, 4, 5)
    y = Whiten2d(3, (1, 2)).forward(x)[0]
    patches = F.unfold(x, (1, 2)).reshape(2, 6, 4, 4)
    assert torch.equal(y, torch.cat([patches, -patches], 1))


def test_a_layer_knows_whether_it_is_fitted():
    layer, other = Whiten2d(3), Whiten2d(3)
    assert not layer.is_fitted() and not layer.to(torch.float64).is_fitted()
    layer.to(torch.float32).fit(torch.randn(4, 3, 6, 6))
    assert layer.is_fitted() and other.load_state_dict(layer.state_dict()).is_fitted()
