"""Facts of Linear and Flatten; test_gradients.py has their gradients."""

import pytest
import torch

from nets.common.errors import BatchError
from nets.layers.linear import Flatten, Linear


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0)])
def test_linear_refuses_sizes_of_nothing(sizes):
    with pytest.raises(ValueError, match="must be at least 1"):
        Linear(*sizes)
    Linear(1, 1)


def test_flatten_takes_batches_alone():
    with pytest.raises(BatchError, match=r"Flatten takes samples \(N, …\), not \(5,\)"):
        Flatten().forward(torch.randn(5))
    assert Flatten().forward(torch.randn(5, 0))[0].shape == (5, 0)
