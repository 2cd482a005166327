"""Tensors joined along an axis."""

import torch
from torch import nn

from nets.layers.joining import Cat, CatModule


def test_images_stay_channels_last_when_they_are_joined():
    one, two = torch.ones(2, 3, 4, 5).contiguous(memory_format=torch.channels_last), torch.ones(2, 1, 4, 5)
    y, _ = Cat(1).forward(one, two)
    assert y.stride(1) == 1


def test_a_call_has_the_axis_by_either_name():
    call, pair = Cat.torch_calls["cat"], [None, None]
    assert [m.dim for m in (call(pair), call(pair, 2), call(pair, axis=3))] == [0, 2, 3]
    assert type(call([None])) is nn.Identity


def test_the_first_axis_is_the_default():
    one, two = torch.randn(2, 3), torch.randn(1, 3)
    y = torch.cat([one, two])
    assert torch.equal(Cat().forward(one, two)[0], y) and torch.equal(CatModule()(one, two), y)
