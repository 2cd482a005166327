"""Facts of AdaptiveAvgPool2d; test_gradients.py has its gradients."""

import pytest
import torch

from nets.common.errors import BatchError
from nets.layers.adaptive_pool import AdaptiveAvgPool2d


def test_an_infinite_gradient_reaches_its_own_window_only():
    layer = AdaptiveAvgPool2d(2)
    _, saved = layer.forward(torch.randn(1, 1, 4, 4))
    dy = torch.tensor([[float("inf"), 1.0], [2.0, 3.0]])[None, None]
    dx, _ = layer.backward(saved, dy)
    assert torch.equal(dx[0, 0], dy[0, 0].repeat_interleave(2, 0).repeat_interleave(2, 1) / 4)


def test_pictures_without_pixels_and_sizes_of_nothing_are_refused():
    for shape in ((2, 3, 0, 4), (2, 3, 4, 0)):
        with pytest.raises(BatchError, match="without pixels"):
            AdaptiveAvgPool2d(2).forward(torch.randn(shape))
    assert AdaptiveAvgPool2d(2)(torch.randn(2, 0, 4, 4)).shape == (2, 0, 2, 2)
    for size in (0, (3, 0), 1.5, None):
        with pytest.raises(ValueError, match="output_size must be a whole number of at least 1, or two"):
            AdaptiveAvgPool2d(size)


@pytest.mark.parametrize("layout, inner", [(torch.contiguous_format, 3), (torch.channels_last, 1)])
def test_the_layout_is_kept(layout, inner):
    layer = AdaptiveAvgPool2d(3)
    y, saved = layer.forward(torch.randn(2, 4, 9, 8).contiguous(memory_format=layout))
    assert y.stride(inner) == 1
    crop = torch.nn.functional.pad(y, (0, 1, 0, 1))[..., :-1, :-1]  # the same layout, with gaps
    for dy in (torch.ones_like(y), crop):
        assert layer.backward(saved, dy)[0].stride(inner) == 1
