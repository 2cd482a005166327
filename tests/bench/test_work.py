"""The least work of a step, against known layers and torch's count."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nets.bench import forms, work
from nets.convert.to_torch import to_torch
from nets.layers.activations import GELU
from nets.layers.containers import Sequential
from nets.layers.conv import Conv2d
from nets.layers.linear import Flatten, Linear
from nets.layers.response_norm import LocalResponseNorm
from nets.layers.whiten import Whiten2d
from tests.bench.common import task


def test_useful_arithmetic_of_known_layers():
    x = torch.empty(5, 3, 8, 8)
    conv = Conv2d(3, 6, 3, padding=1)
    once = 2 * 5 * 6 * 8 * 8 * 3 * 9
    assert work.useful_flops(Sequential(conv), x) == 2 * once  # forward and dw: the data's dx isn't needed
    twice = Sequential(Conv2d(3, 6, 3, padding=1), Conv2d(6, 4, 3, stride=2, padding=1, groups=2))
    assert work.useful_flops(twice, x) == 2 * once + 3 * (2 * 5 * 4 * 4 * 4 * 3 * 9)
    assert (
        work.useful_flops(Sequential(Whiten2d(3, 2)), x) == 2 * 5 * 24 * 7 * 7 * 3 * 4
    )  # its filters aren't trained
    dense = Sequential(Linear(7, 2), Linear(2, 3))
    assert work.useful_flops(dense, torch.empty(4, 7)) == 2 * 4 * (2 * 14 + 3 * 6)


@pytest.mark.parametrize("name", ["dense", "digits", "cifar10"])
def test_useful_arithmetic_equals_torchs_count_of_autograds_step(name):
    net, _, x, _ = forms.prepare(task(name, "train.batch_size=2", "train.dtype=float32"))
    with FlopCounterMode(display=False) as counter:
        to_torch(net)(x).sum().backward()
    assert work.useful_flops(net, x) == counter.get_total_flops()


def test_fewest_bytes_of_a_layer_that_writes_in_place():
    """LocalResponseNorm writes into its output, which autograd's recording would forbid."""
    net = Sequential(Conv2d(3, 4, 3), LocalResponseNorm(3), Flatten(), Linear(4 * 4 * 4, 2))
    x, dtype = torch.empty(5, 3, 6, 6), 4
    conv, norm, dense = 5 * 3 * 6 * 6, 5 * 4 * 4 * 4, 5 * 2
    first = dtype * (2 * conv + 2 * norm)  # the images' gradient isn't needed
    middle = dtype * (3 * norm + 2 * norm)
    last = dtype * (3 * norm + 2 * dense)
    weights = 4 * 3 * 9 + 4 + 64 * 2 + 2
    assert work.fewest_bytes(net, x, False) == first + middle + last + 6 * dtype * weights


def test_fewest_bytes_of_a_known_net():
    x, hidden, y = 4 * 5 * 7, 4 * 5 * 3, 4 * 5 * 2
    net = Sequential(Linear(7, 3, bias=False), GELU(), Linear(3, 2, bias=False))
    first = 2 * x + 2 * hidden  # read forward and for dw; written forward, dy read
    second = 3 * hidden + 2 * y  # and dx written
    assert work.fewest_bytes(net, torch.empty(5, 7), False) == first + second + 6 * 4 * (21 + 6)
    assert work.fewest_bytes(net, torch.empty(5, 7), True) == first + second + 8 * 4 * (21 + 6)
