"""Sampler: the order of an epoch and the draws of its augmentation."""

import hashlib

import pytest
import torch

from nets.data.sampler import EpochPlan, epoch_plan
from nets.training import config


def draw(n=40, shape=(3, 8, 6), seed=0, epoch=0, data=None, **augment):
    return epoch_plan(n, shape, data or config.Data(), config.Augment(**augment), seed, epoch, "cpu")


def test_an_epoch_holds_each_sample_once_in_an_order_of_its_own():
    a, b = draw(epoch=0).order, draw(epoch=1).order
    assert a.sort().values.tolist() == b.sort().values.tolist() == list(range(40))
    assert not torch.equal(a, b)
    assert torch.equal(a, draw(epoch=0).order) and not torch.equal(a, draw(seed=1).order)


def test_the_plan_of_a_seed_and_epoch_is_pinned():
    """A change here changes the batches of every run: its checkpoints would resume on other ones."""
    augment = dict(crop_padding=2, flip="alternating", cutout=3, color_jitter=0.1)
    plan = draw(200, (3, 9, 8), seed=7, epoch=3, **augment)
    digest = hashlib.md5()
    for t in (plan.order, plan.shift, plan.flip, plan.hole):
        digest.update(t.numpy().tobytes())
    assert digest.hexdigest() == "76d2ba1ac5e224468b3833be69bd7ab8"
    # normal numbers differ in their last bits between CPUs
    assert plan.color[0].tolist() == pytest.approx([-0.04024185986, 0.074846997857, 0.114843025804], abs=1e-6)


def test_the_plan_of_random_crops_is_pinned():
    plan = draw(200, (3, 6, 6), seed=1, data=config.Data(size=8, crop_size=6), flip="random")
    digest = hashlib.md5()
    for t in (plan.order, plan.shift, plan.flip):
        digest.update(t.numpy().tobytes())
    assert digest.hexdigest() == "179e503716ab5c39af2f5deedf3125e8"


def test_augmentations_that_are_off_have_no_draws():
    plan = draw()
    assert plan.shift is plan.flip is plan.hole is plan.color is None


def test_shifts_cover_their_range():
    shift = draw(n=2000, crop_padding=2).shift
    assert sorted(set(shift.flatten().tolist())) == [-2, -1, 0, 1, 2]


def test_alternating_flip_shows_both_sides_in_two_epochs():
    flips = []
    for epoch in range(4):
        plan = draw(epoch=epoch, flip="alternating")
        by_image = torch.empty_like(plan.flip)
        by_image[plan.order] = plan.flip
        flips.append(by_image)
    assert torch.equal(flips[0], ~flips[1]) and torch.equal(flips[0], flips[2])
    assert 5 < flips[0].sum() < 35
    assert not torch.equal(flips[0], ~draw(epoch=1, flip="random").flip)


def test_color_amounts_have_the_given_std_and_depend_on_the_epoch():
    plan = draw(4000, (3, 2, 2), color_jitter=0.1)
    assert plan.color.shape == (4000, 3) and abs(plan.color.std() - 0.1) < 3e-3
    again, other = (draw(4000, (3, 2, 2), epoch=epoch, color_jitter=0.1) for epoch in (0, 1))
    assert torch.equal(plan.color, again.color) and not torch.equal(plan.color, other.color)


def test_batch_and_select_keep_the_fields_together():
    plan = EpochPlan(torch.arange(6), torch.arange(12).view(6, 2), flip=torch.arange(6) % 2 == 0)
    part = plan.batch(2, 5)
    assert part.order.tolist() == [2, 3, 4] and part.shift.tolist() == [[4, 5], [6, 7], [8, 9]]
    assert part.flip.tolist() == [True, False, True] and part.hole is part.color is None
    mask = torch.tensor([True, False, False, False, False, True])
    for positions in (mask, torch.tensor([0, 5])):
        part = plan.select(positions)
        assert part.order.tolist() == [0, 5] and part.shift.tolist() == [[0, 1], [10, 11]]
