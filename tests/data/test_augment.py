"""Augmentation of batches, against a loop over images and against torchvision."""

import hashlib

import numpy as np
import pytest
import torch

from nets.data.augment import (
    color_axes,
    color_jitter,
    crop_and_flip,
    cutout,
    normalize,
    random_resized_crop_box,
    resize,
)
from nets.data.sampler import EpochPlan, epoch_plan
from nets.training import config


def md5(t: torch.Tensor) -> str:
    return hashlib.md5(t.contiguous().numpy().tobytes()).hexdigest()


def test_one_augmented_batch_is_pinned():
    """To the bit: whole numbers, and float32 operations that IEEE 754 defines."""
    x = torch.randint(0, 256, (200, 9, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    options = config.Augment(crop_padding=2, flip="alternating", cutout=3, color_jitter=0.1)
    batch = epoch_plan(200, (3, 9, 8), config.Data(), options, 7, 3, "cpu").batch(64, 96)
    pixels = crop_and_flip(x, batch)
    assert md5(pixels) == "855cb05ed79e7646a1212b4bac9d6cf1"
    mean, std = torch.tensor([0.5, 0.25, 0.75]), torch.tensor([0.25, 0.5, 0.125])
    normalized = normalize(pixels, mean, std, torch.float32)
    assert md5(normalized) == "b03a0ffc5e65a57020ee7034bd5e7035"
    assert md5(cutout(normalized, batch.hole, 3)) == "386dec83f32b5904c2ad622ba2d92bb9"


def test_crop_and_flip_is_a_reflect_pad_a_crop_and_a_flip():
    x = torch.randint(0, 256, (5, 8, 6, 3), dtype=torch.uint8)
    order = torch.tensor([4, 0, 2, 2])
    shift = torch.tensor([[2, -1], [-2, 2], [0, 0], [1, 1]])
    flip = torch.tensor([False, True, True, False])
    got = crop_and_flip(x, EpochPlan(order, shift, flip))
    for k in range(4):
        wide = np.pad(x[order[k]].numpy(), ((2, 2), (2, 2), (0, 0)), mode="reflect")
        dy, dx = (shift[k] + 2).tolist()
        want = wide[dy : dy + 8, dx : dx + 6]
        want = want[:, ::-1] if flip[k] else want
        assert np.array_equal(got[k].numpy(), want)


def test_random_crops_are_cut_from_anywhere_inside_the_image():
    data, augment = config.Data(source="folder", size=9, crop_size=6), config.Augment(flip="random")
    plan = epoch_plan(500, (3, 6, 6), data, augment, 0, 0, "cpu")
    assert sorted(set(plan.shift.flatten().tolist())) == [0, 1, 2, 3]
    x = torch.randint(0, 256, (500, 9, 9, 3), dtype=torch.uint8)
    got = crop_and_flip(x, plan, 6)
    assert got.shape == (500, 6, 6, 3)
    for k in range(20):
        i, j = plan.shift[k].tolist()
        want = x[plan.order[k], i : i + 6, j : j + 6]
        assert torch.equal(got[k], want.flip(1) if plan.flip[k] else want)
    one = EpochPlan(torch.tensor([3]), torch.tensor([[3, 0]]))
    assert torch.equal(crop_and_flip(x, one, 6)[0], x[3, 3:, :6])


def test_samples_that_are_no_images_are_indexed():
    x, order = torch.randn(5, 2), torch.tensor([4, 0, 0])
    assert torch.equal(crop_and_flip(x, EpochPlan(order)), x[order])


def test_normalize_subtracts_the_mean_and_divides_by_the_std():
    x = torch.randint(0, 256, (4, 5, 6, 3), dtype=torch.uint8)
    mean, std = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 0.3, 0.4])
    y = normalize(x, mean, std, torch.float32)
    want = (x.double().permute(0, 3, 1, 2) / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(y.double(), want, rtol=1e-5, atol=1e-5)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert normalize(x, mean, std, torch.bfloat16, False).is_contiguous()


def test_resize_is_bilinear_and_keeps_the_layout():
    x = torch.arange(4.0).expand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    y = resize(x, 2)
    assert y.shape == (2, 3, 2, 2) and y.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(y[0, 0, 0], torch.tensor([0.5, 2.5]))
    assert resize(x.bfloat16(), 3).dtype == torch.bfloat16


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_cutout_zeroes_a_square(size):
    x = torch.ones(2, 3, 8, 9)
    y = cutout(x, torch.tensor([[4, 5], [0, 8]]), size)
    assert (y[0] == 0).sum() == 3 * size**2
    assert y[0, :, 4, 5].sum() == 0 and (y[0, 0] == 0).any(0).sum() == size
    assert 0 < (y[1] == 0).sum() <= 3 * size**2 and y[1, 0, 0, 8] == 0  # cut off at the border


def test_color_axes_are_the_eigenvectors_of_the_covariance():
    mix = torch.tensor([[40.0, 10.0, 0.0], [30.0, -10.0, 5.0], [20.0, 5.0, -10.0]])
    x = (torch.randn(6, 30, 40, 3) @ mix.T + 128).round().clamp(0, 255).to(torch.uint8)
    axes = color_axes(x)
    pixels = x.reshape(-1, 3).double() / 255
    covariance = torch.cov(pixels.T, correction=0)
    torch.testing.assert_close((axes @ axes.T).double(), covariance, rtol=1e-4, atol=1e-7)
    gram = axes.T @ axes
    assert (gram - gram.diag().diag()).abs().max() < 1e-5 * gram.max()
    assert torch.equal(color_axes(x[:1].expand(6, -1, -1, -1), max_images=2), color_axes(x[:1]))


def test_color_jitter_shifts_all_pixels_of_an_image_along_the_axes():
    axes = torch.tensor([[1.0, 0.0, 0.2], [0.0, 2.0, 0.1], [0.5, 0.0, 0.3]])
    std = torch.tensor([0.2, 0.3, 0.4])
    x = torch.randn(2, 3, 4, 5)
    y = color_jitter(x, torch.tensor([[0.1, -0.2, 0.3], [0.0, 0.0, 0.0]]), axes, std)
    offset = torch.tensor([0.1 + 0.06, -0.4 + 0.03, 0.05 + 0.09]) / std
    torch.testing.assert_close(y[0], x[0] + offset[:, None, None])
    assert torch.equal(y[1], x[1])
    assert color_jitter(x.bfloat16(), torch.randn(2, 3), axes, std).dtype == torch.bfloat16


def test_random_resized_crop_boxes_are_distributed_as_torchvisions():
    transforms = pytest.importorskip("torchvision.transforms")
    rng = np.random.default_rng(0)
    boxes = np.array([random_resized_crop_box(400, 300, 0.08, rng) for _ in range(4000)])
    left, top, right, bottom = boxes.T
    image = torch.empty(3, 300, 400)
    parameters = transforms.RandomResizedCrop.get_params
    theirs = [parameters(image, (0.08, 1), (3 / 4, 4 / 3)) for _ in range(4000)]
    for ours, other in zip((top, left, bottom - top, right - left), np.array(theirs).T):
        assert abs(ours.mean() - other.mean()) < 5 * other.std() / 4000**0.5 * 2**0.5


def test_random_resized_crop_boxes_have_the_area_and_ratio_asked_for():
    rng = np.random.default_rng(0)
    boxes = np.array([random_resized_crop_box(400, 300, 0.08, rng) for _ in range(4000)])
    left, top, right, bottom = boxes.T
    assert left.min() == top.min() == 0 and right.max() == 400 and bottom.max() == 300
    w, h = right - left, bottom - top
    assert 0.73 < (w / h).min() < 0.76 and 1.32 < (w / h).max() < 1.36
    assert 0.075 < (w * h).min() / 120_000 < 0.1 and (w * h).max() <= 120_000
    # too narrow for any draw to fit: the center
    assert random_resized_crop_box(1, 1000, 0.08, rng) == (0, 499, 1, 500)
    assert random_resized_crop_box(900, 90, 1.0, rng) == (390, 0, 510, 90)


def test_random_resized_crop_boxes_are_pinned():
    rng = np.random.default_rng(3)
    boxes = [random_resized_crop_box(40, 30, 0.1, rng) for _ in range(3)]
    assert boxes == [(4, 12, 18, 28), (4, 1, 28, 25), (7, 3, 30, 26)]
