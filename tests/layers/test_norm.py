"""Facts of BatchNorm2d: its running statistics, and which batches and options it refuses."""

import pytest
import torch
from torch import nn

from nets.common.errors import BatchError, ModuleError
from nets.convert.from_torch import from_torch
from nets.kernels import lower
from nets.layers.norm import BatchNorm2d


def test_running_variance_is_the_unbiased_one():
    layer, x = BatchNorm2d(1, momentum=1.0), torch.tensor([1.0, 2.0, 3.0, 6.0]).view(4, 1, 1, 1)
    layer.forward(x)
    assert layer.buffers["running_mean"].item() == 3.0
    assert layer.buffers["running_var"].item() == pytest.approx(14 / 3)


def test_training_needs_more_than_one_value_a_channel():
    layer = BatchNorm2d(3)
    with pytest.raises(ValueError, match="more than one value a channel"):
        layer.forward(torch.randn(1, 3, 1, 1))
    layer.eval().forward(torch.randn(1, 3, 1, 1))
    for shape in [(2, 3, 1, 1), (1, 3, 2, 1), (1, 3, 1, 2)]:  # two values are enough
        layer.train().forward(torch.randn(shape))


@pytest.mark.parametrize("wrong", [dict(eps=0), dict(eps=-1e-5), dict(momentum=-0.1), dict(momentum=1.1)])
def test_wrong_eps_and_momentum_are_refused(wrong):
    with pytest.raises(ValueError, match="eps must be over 0 and momentum 0 to 1"):
        BatchNorm2d(3, **wrong)
    BatchNorm2d(3, eps=1e-9, momentum=0)  # the average stays as it is


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_no_pictures_in_evaluation_give_gradients_of_zero(backend):
    """The library's own backward crashed on this."""
    layer = lower(BatchNorm2d(3), backend, "cpu", torch.float32).eval()
    y, saved = layer.forward(torch.randn(0, 3, 2, 2))
    dx, grads = layer.backward(saved, y)
    assert dx.shape == y.shape == (0, 3, 2, 2)
    assert all(torch.equal(g, torch.zeros(3)) for g in grads.values())


@pytest.mark.parametrize("training", [True, False])
def test_statistics_of_given_moments_equal_those_of_forward(training):
    """The form with kernels of its own computes moments itself, and leaves the averages to the layer."""
    layer, same = (BatchNorm2d(3, momentum=0.3).to(torch.float64).train(training) for _ in range(2))
    x = torch.randn(4, 3, 5, 5, dtype=torch.float64) * 2 + 1
    _, (_, mean, rstd, _) = layer.forward(x)
    moments = lambda x: (x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0))  # noqa: E731
    own_mean, own_var = same.statistics(x, moments)
    torch.testing.assert_close(own_mean, mean)
    torch.testing.assert_close(torch.rsqrt(own_var + same.eps), rstd)
    for name, t in layer.buffers.items():
        torch.testing.assert_close(same.buffers[name], t)


def test_a_batch_with_other_channels_is_refused_and_leaves_the_statistics_alone():
    layer = BatchNorm2d(3)
    layer.buffers["running_mean"].fill_(2)
    with pytest.raises(BatchError, match="takes 3 channels, not 4"):
        layer.forward(torch.randn(2, 4, 5, 5))
    assert (layer.buffers["running_mean"] == 2).all()


def test_a_module_without_statistics_is_refused():
    with pytest.raises(ModuleError, match="track_running_stats=False"):
        from_torch(nn.BatchNorm2d(3, track_running_stats=False))
