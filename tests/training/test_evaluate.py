"""Evaluation: outputs in evaluation mode, with test-time augmentation for the least certain samples."""

import torch

from nets.data.datasets import Dataset
from nets.data.tta import least_certain
from nets.layers.containers import Sequential
from nets.layers.conv import Conv2d
from nets.layers.linear import Flatten, Linear
from nets.layers.pool import GlobalMaxPool
from nets.training.config import Eval
from nets.training.evaluate import outputs


def small_net():
    torch.manual_seed(0)
    return Sequential(Conv2d(3, 4, 3), Conv2d(4, 4, 3, bias=False), GlobalMaxPool(), Flatten(), Linear(4, 2))


def test_tta_fraction_augments_the_least_certain_images_alone():
    net = small_net()
    x = torch.randint(256, (10, 8, 8, 3), dtype=torch.uint8)
    y = torch.zeros(10, dtype=torch.int64)
    d = Dataset(x, y, x, y, ("a", "b"), torch.full((3,), 0.5), torch.full((3,), 0.3))
    one = outputs(net, x, d, torch.float32, True)
    all_six = outputs(net, x, d, torch.float32, True, settings=Eval("six_view"))
    some = outputs(net, x, d, torch.float32, True, settings=Eval("six_view", 0.3))
    again = least_certain(one, 0.3)
    assert torch.allclose(some[again], all_six[again], atol=1e-5)
    rest = [i for i in range(10) if i not in again.tolist()]
    assert torch.equal(some[rest], one[rest]) and not torch.allclose(one[again], all_six[again])
    assert net.training
