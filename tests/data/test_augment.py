"""Batches: each picture once an epoch, shifted and flipped as a loop over pictures would."""

import numpy as np
import pytest
import torch

from nets.data import augment, sampler
from nets.data.sampler import EpochPlan
from nets.training import config


def draw(n=40, shape=(3, 8, 6), seed=0, epoch=0, **options):
    return sampler.epoch_plan(n, shape, config.Data(), config.Augment(**options), seed, epoch, "cpu")


def test_an_epoch_holds_every_sample_once_in_a_new_order():
    a, b = draw(epoch=0).order, draw(epoch=1).order
    assert a.sort().values.tolist() == b.sort().values.tolist() == list(range(40))
    assert not torch.equal(a, b)
    assert torch.equal(a, draw(epoch=0).order) and not torch.equal(a, draw(seed=1).order)


def test_take_is_a_reflect_pad_a_crop_and_a_flip():
    x = torch.randint(0, 256, (5, 8, 6, 3), dtype=torch.uint8)
    order = torch.tensor([4, 0, 2, 2])
    shift = torch.tensor([[2, -1], [-2, 2], [0, 0], [1, 1]])
    flip = torch.tensor([False, True, True, False])
    got = augment.crop_and_flip(x, EpochPlan(order, shift, flip))
    for k in range(4):
        wide = np.pad(x[order[k]].numpy(), ((2, 2), (2, 2), (0, 0)), mode="reflect")
        dy, dx = (shift[k] + 2).tolist()
        want = wide[dy : dy + 8, dx : dx + 6]
        want = want[:, ::-1] if flip[k] else want
        assert np.array_equal(got[k].numpy(), want)


def test_shifts_cover_their_range():
    shift = draw(n=2000, crop_padding=2).shift
    assert sorted(set(shift.flatten().tolist())) == [-2, -1, 0, 1, 2]


def test_alternating_flip_shows_both_sides_in_two_epochs():
    flips = []
    for epoch in range(4):
        plan = draw(epoch=epoch, flip="alternating")
        by_picture = torch.empty_like(plan.flip)
        by_picture[plan.order] = plan.flip
        flips.append(by_picture)
    assert torch.equal(flips[0], ~flips[1]) and torch.equal(flips[0], flips[2])
    assert 5 < flips[0].sum() < 35
    assert not torch.equal(flips[0], ~draw(epoch=1, flip="random").flip)


def test_normalize():
    x = torch.randint(0, 256, (4, 5, 6, 3), dtype=torch.uint8)
    mean, std = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 0.3, 0.4])
    y = augment.normalize(x, mean, std, torch.float32)
    want = (x.double().permute(0, 3, 1, 2) / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(y.double(), want, rtol=1e-5, atol=1e-5)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert augment.normalize(x, mean, std, torch.bfloat16, False).is_contiguous()


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_cutout_blanks_a_square(side):
    x = torch.ones(2, 3, 8, 9)
    y = augment.cutout(x, torch.tensor([[4, 5], [0, 8]]), side)
    assert (y[0] == 0).sum() == 3 * side**2
    assert y[0, :, 4, 5].sum() == 0 and (y[0, 0] == 0).any(0).sum() == side
    assert 0 < (y[1] == 0).sum() <= 3 * side**2 and y[1, 0, 0, 8] == 0  # cut by the corner
