"""Random numbers and buffers are set back, those that a layer holds too."""

import random

import numpy
import pytest
import torch

from nets.gradcheck.replay import Replay, reseed, seeded
from nets.layers.base import Layer
from nets.layers.norm import BatchNorm2d

CPU = torch.device("cpu")


class Draws(Layer):
    """Holds one generator of every kind, and a norm in a list."""

    def __init__(self):
        super().__init__()
        self.torch, self.python = torch.Generator().manual_seed(1), random.Random(1)
        self.numpy, self.old = numpy.random.default_rng(1), numpy.random.RandomState(1)
        self.norms = [BatchNorm2d(2)]

    def draw(self):
        own = (
            torch.rand((), generator=self.torch).item(),
            self.python.random(),
            self.numpy.random(),
            self.old.rand(),
        )
        mean = self.norms[0].buffers["running_mean"].clone()
        self.norms[0].buffers["running_mean"] += 1
        return *own, torch.rand(()).item(), random.random(), numpy.random.rand(), mean[0].item()


def test_a_restored_state_draws_the_same_numbers():
    layer = Draws()
    replay = Replay(layer, CPU)
    state = replay.state()
    first = layer.draw()
    assert all(a != b for a, b in zip(first, layer.draw()))
    replay.restore(state)
    assert layer.draw() == first
    replay.restore(state, buffers=False)
    assert layer.draw()[:-1] == first[:-1] and layer.norms[0].buffers["running_mean"][0] == 2


def test_a_buffer_that_a_forward_replaced_is_put_back():
    layer = BatchNorm2d(2)
    replay = Replay(layer, CPU)
    state = replay.state()
    layer.buffers["running_mean"] = torch.zeros(3)
    replay.restore(state)
    assert layer.buffers["running_mean"].shape == (2,)


def test_seeded_leaves_the_shared_random_numbers_as_they_were():
    reseed(3)
    expected = torch.rand(()).item(), random.random(), numpy.random.rand()
    reseed(3)
    with seeded(CPU, 5):
        inside = torch.rand(()).item(), random.random(), numpy.random.rand()
    with pytest.raises(ZeroDivisionError), seeded(CPU, 5):
        assert inside == (torch.rand(()).item(), random.random(), numpy.random.rand())
        raise ZeroDivisionError
    assert expected == (torch.rand(()).item(), random.random(), numpy.random.rand())
