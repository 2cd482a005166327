"""Test-time augmentation: the views, their weights, and the mean of the outputs."""

import pytest
import torch
from torch.nn import functional as F

from nets.data.tta import TTA, center_crop, least_certain, predict_tta, ten_crop
from nets.layers.containers import Sequential
from nets.layers.conv import Conv2d
from nets.layers.linear import Flatten, Linear
from nets.layers.pool import GlobalMaxPool


def small_net():
    torch.manual_seed(0)
    return Sequential(Conv2d(3, 4, 3), Conv2d(4, 4, 3, bias=False), GlobalMaxPool(), Flatten(), Linear(4, 2))


class MeanNet:
    """A net whose two outputs depend on the crop; notes the shapes of its inputs."""

    def __init__(self):
        self.shapes = []

    def forward(self, x):
        self.shapes.append(x.shape)
        return torch.stack([x[:, 0, 0, 0], x.mean((1, 2, 3))], 1), None


def test_six_view_averages_mirrored_and_shifted_views():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 6).contiguous(memory_format=torch.channels_last)
    views = TTA["six_view"](x)
    assert len(views) == 6 and sum(w for w, _ in views) == 1
    assert all(v.shape == x.shape for _, v in views)
    shifted = views[2][1]
    assert torch.equal(shifted[:, :, 1:, 1:], x[:, :, :-1, :-1])
    assert torch.equal(shifted[:, :, 0, 1:], x[:, :, 1, :-1])  # reflected at the border
    assert torch.equal(views[3][1], shifted.flip(3))
    assert torch.equal(views[4][1][:, :, :-1, :-1], x[:, :, 1:, 1:])
    net = small_net().eval()
    by_hand = sum(w * net.forward(v)[0] for w, v in views)
    assert torch.allclose(predict_tta(net, x, "six_view"), by_hand, atol=1e-6)
    assert torch.equal(predict_tta(net, x, "none"), net.forward(x)[0])


def test_corners_shifts_towards_all_four_diagonals():
    x = torch.arange(36.0).reshape(1, 1, 6, 6).expand(1, 3, 6, 6)
    views = TTA["corners"](x)
    assert len(views) == 10 and sum(w for w, _ in views) == pytest.approx(1)
    centers = {v[0, 0, 2, 2].item() for _, v in views[::2]}
    assert centers == {x[0, 0, i, j].item() for i, j in [(2, 2), (1, 1), (3, 3), (1, 3), (3, 1)]}


def test_ten_crop_is_torchvisions():
    functional = pytest.importorskip("torchvision.transforms.functional")
    x = torch.randn(2, 3, 9, 11)  # torchvision rounds an odd margin up
    want = functional.ten_crop(x, 5)
    order = [0, 1, 2, 3, 4, 6, 5, 8, 7, 9]  # torchvision crops the mirrored image; here crops are mirrored
    assert all(torch.equal(mine, want[i]) for mine, i in zip(ten_crop(x, 5), order, strict=True))
    assert torch.equal(center_crop(x, 5), ten_crop(x, 5)[4])


def test_ten_crop_averages_after_the_softmax():
    x, net = 3 * torch.randn(2, 3, 9, 8), MeanNet()
    z = predict_tta(net, x, "ten_crop", 5)
    want = torch.stack([F.softmax(MeanNet().forward(v)[0], 1) for v in ten_crop(x, 5)]).mean(0)
    torch.testing.assert_close(F.softmax(z, 1), want)
    torch.testing.assert_close(z.exp().sum(1), torch.ones(2))  # log-probabilities
    assert net.shapes == 10 * [(2, 3, 5, 5)]
    assert predict_tta(net, x.bfloat16(), "ten_crop", 5).dtype == torch.float32


def test_no_augmentation_predicts_the_center_crop():
    x = 3 * torch.randn(2, 3, 9, 8)
    torch.testing.assert_close(predict_tta(MeanNet(), x, "none", 5), MeanNet().forward(center_crop(x, 5))[0])
    assert torch.equal(predict_tta(MeanNet(), x, "none"), MeanNet().forward(x)[0])


def test_least_certain_takes_the_smallest_margins():
    z = torch.tensor([[9.0, 0, 0], [1, 1.1, 0], [0, 5, 0], [2, 2, 2]])
    assert least_certain(z, 0.5).tolist() == [1, 3]
    assert least_certain(z, 0.0).tolist() == []
