"""Tensors joined along an axis."""

import torch

from nets.layers.joining import Cat


def test_images_stay_channels_last_when_they_are_joined():
    one, two = torch.ones(2, 3, 4, 5).contiguous(memory_format=torch.channels_last), torch.ones(2, 1, 4, 5)
    y, _ = Cat(1).forward(one, two)
    assert y.stride(1) == 1
