"""Facts of Conv2d; test_gradients.py has its gradients, test_windows.py its geometry."""

import pytest
import torch
from torch import nn

from nets.common.errors import ModuleError
from nets.convert.from_torch import from_torch
from nets.gradcheck import compare
from nets.layers.conv import Conv2d


@pytest.mark.parametrize("groups", [1, 3])
def test_weight_gradient_in_blocks_is_the_sum_over_all_images(groups):
    """More images than one block of patches holds give the same sum."""
    layer = Conv2d(3, 6, 3, padding=1, groups=groups).to(torch.float64)
    x = torch.randn(80, 3, 60, 60, dtype=torch.float64)
    assert 2**22 < 80 * 60**2 * 27 < 2 * 2**22  # numbers in its patches: two blocks
    y, saved = layer.forward(x)
    dy = torch.randn_like(y)
    whole = layer.backward(saved, dy)[1]["weight"]
    parts = sum(layer.backward(x[i : i + 8], dy[i : i + 8])[1]["weight"] for i in range(0, 80, 8))
    assert compare(whole, parts)[1] < 1e-12


@pytest.mark.parametrize("groups", [2, 0])
def test_groups_must_divide_channels(groups):
    with pytest.raises(ValueError, match=f"{groups} groups"):
        Conv2d(3, 4, 3, groups=groups)


@pytest.mark.parametrize("sizes", [(0, 3, 2), (3, 0, 2)])
def test_conv2d_refuses_sizes_of_nothing(sizes):
    with pytest.raises(ValueError, match="must be at least 1"):
        Conv2d(*sizes)
    Conv2d(1, 1, 1)


@pytest.mark.parametrize(
    "options, same",
    [
        (dict(kernel_size=3, padding=1), True),
        (dict(kernel_size=(3, 3), stride=1, padding=(1, 1), bias=False), True),
        (dict(kernel_size=3), False),
        (dict(kernel_size=5, padding=1), False),
        (dict(kernel_size=3, padding=1, stride=2), False),
        (dict(kernel_size=3, padding=1, dilation=2), False),
        (dict(kernel_size=3, padding=1, groups=2), False),
    ],
)
def test_is_same_3x3_tells_what_the_native_kernels_can_do(options, same):
    assert Conv2d(4, 4, **options).is_same_3x3() == same


def test_padding_same_is_as_many_places_as_it_needs():
    assert from_torch(nn.Conv2d(3, 4, (3, 5), padding="same")).windows.padding == (1, 2)
    for size in ((2, 3), (3, 2)):
        with pytest.raises(ModuleError, match="isn't the same on both sides"):
            from_torch(nn.Conv2d(3, 4, size, padding="same"))
