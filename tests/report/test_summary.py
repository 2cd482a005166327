"""nets summary: its numbers for every shipped config, and its table."""

from pathlib import Path

import pytest
import torch

from nets.commands.targets import narrow
from nets.data import datasets as data
from nets.layers.containers import Sequential
from nets.layers.linear import Linear
from nets.report import summary
from nets.training import config
from nets.training.make import make_net

CONFIGS = sorted(Path(__file__).parents[2].glob("configs/*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_lines_on_meta_equal_those_of_a_real_forward(path):
    """Large nets are narrowed."""
    conf = config.load(path, narrow(path))
    found = summary.of(conf, 2)
    shape, outputs = data.shapes(conf.data)
    net, dtype = make_net(conf, shape, outputs), getattr(torch, conf.train.dtype)
    net.to(torch.promote_types(dtype, torch.float32))
    x = torch.rand(2, *shape, dtype=dtype)
    if len(shape) == 3:
        x = x.contiguous(memory_format=torch.channels_last)
    assert summary.lines(net, x) == found
    assert sum(line.parameters for line in found) == sum(p.numel() for p in net.params.values())
    assert found[-1].shape == (2, outputs)
    assert all("forward" not in vars(layer) for layer in net.walk())  # the net is unchanged


def test_numbers_computed_by_hand():
    conf = config.load(CONFIGS[0].with_name("digits.toml"))
    found = summary.of(conf, 3)
    assert [line.name for line in found[:3]] == ["0 (Conv2d)", "1 (BatchNorm2d)", "2 (ReLU)"]
    assert found[0].products == 3 * 32 * 8 * 8 * 9 and found[0].parameters == 32 * 9
    assert found[0].saved == 3 * 8 * 8 * 4  # its x
    assert found[1].saved == 3 * 32 * 8 * 8 * 4 + 2 * 32 * 4  # its x, mean and deviation
    assert found[2].saved == 3 * 32 * 8 * 8  # one byte per number
    assert found[-3].saved == 0  # Flatten
    half = summary.of(config.load(CONFIGS[0].with_name("digits.toml"), ["train.dtype=bfloat16"]), 3)
    assert half[0].saved == 3 * 8 * 8 * 2


def test_shared_parameters_are_counted_once():
    layer = Linear(4, 4)
    found = summary.lines(Sequential(layer, layer), torch.empty(5, 4))
    assert [line.parameters for line in found] == [20, 0]
    assert [line.saved for line in found] == [80, 80] and [line.products for line in found] == [80, 80]
