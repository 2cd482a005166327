"""Facts of Linear and Flatten; test_gradients.py has their gradients."""

import pytest
import torch
from torch import nn

from nets.common.errors import BatchError, ModuleError, Unsupported
from nets.convert.from_torch import from_torch
from nets.layers.linear import Flatten, Linear
from nets.layers.reshaping import Reshape


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0)])
def test_linear_refuses_sizes_of_nothing(sizes):
    with pytest.raises(ValueError, match="must be at least 1"):
        Linear(*sizes)
    Linear(1, 1)


def test_flatten_takes_batches_alone():
    with pytest.raises(BatchError, match=r"Flatten takes samples \(N, …\), not \(5,\)"):
        Flatten().forward(torch.randn(5))
    assert Flatten().forward(torch.randn(5, 0))[0].shape == (5, 0)


@pytest.mark.parametrize("options", [dict(start_dim=0), dict(start_dim=2), dict(end_dim=2), dict(end_dim=-2)])
def test_a_flatten_of_other_axes_is_refused(options):
    with pytest.raises(ModuleError, match=f"Flatten with {next(iter(options))}"):
        from_torch(nn.Flatten(**options))
    assert type(from_torch(nn.Flatten())) is Flatten


class Viewed(nn.Module):
    def __init__(self, view):
        super().__init__()
        self.view = view

    def forward(self, x):
        return self.view(x)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.view(x.size(0), -1),
        lambda x: x.view((x.size(0), -1)),
        lambda x: x.reshape([x.shape[0], -1]),
        lambda x: torch.reshape(x, (x.size()[0], -1)),
    ],
)
def test_a_view_of_each_sample_as_a_row_is_a_flatten(view):
    net, x = from_torch(Viewed(view)), torch.randn(2, 3, 4)
    assert type(net) is Flatten and torch.equal(net(x), view(x))


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.view(x.size(0), 12),
        lambda x: x.view(x.size(1), -1),
        lambda x: x.view(2, -1),
        lambda x: x.view(-1),
        lambda x: x.view(-1, x.size(0)),
        lambda x: x.view(x.size(0), x.size(1), -1),
        lambda x: x.view((x.size(0), -1, 2)),
    ],
)
def test_another_view_is_a_reshape(view):
    net, x = from_torch(Viewed(view)), torch.randn(2, 3, 4)
    assert type(net) is Reshape and torch.equal(net(x), view(x))


def test_a_call_with_a_weight_that_is_not_trained_is_refused():
    for weight in (torch.ones(3, 4), nn.Parameter(torch.ones(4))):
        with pytest.raises(Unsupported, match=r"no parameter \(O, I\)"):
            Linear.torch_tensor_calls["linear"](None, weight)
