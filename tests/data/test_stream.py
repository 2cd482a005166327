"""Streams: the batches of the tree in memory, from any number of workers."""

import numpy as np
import pytest
import torch
from PIL import Image

from nets.common.errors import DataError
from nets.data.augment import random_resized_crop_box
from nets.data.sampler import epoch_plan
from nets.data.stream import ImageStream, wait_share
from nets.training import config
from tests.data.trees import all_equal, batches, epoch_of, load_stream
from tests.helpers import CUDA


def test_a_stream_gives_the_batches_of_the_tree_in_memory(root):
    options = config.Augment(crop_padding=2, flip="random")
    here, there = load_stream(root, memory_limit_mb=1), load_stream(root)
    assert isinstance(here.train_x, torch.Tensor) and isinstance(there.train_x, ImageStream)
    assert all_equal(epoch_of(here, augment=options)[0], epoch_of(there, augment=options)[0])
    assert len(epoch_of(there)[0]) == 4  # of 42 images; the last two fill no batch
    assert torch.equal(here.train_y, there.train_y) and torch.equal(here.test_y, there.test_y)
    assert torch.equal(here.mean, there.mean) and torch.equal(here.std, there.std)
    assert torch.equal(torch.cat([*there.test_x.split(4)]), here.test_x) and len(there.test_x.split(4)) == 3
    assert torch.equal(there.train_x[::5], here.train_x[::5])
    assert torch.equal(there.train_x[[3, 1]], here.train_x[[3, 1]])
    assert there.shape == here.shape == (3, 12, 12) and there.train_x.shape == here.train_x.shape
    assert there.train_x.numel() == here.train_x.numel() and there.num_outputs == 3


@pytest.mark.parametrize(
    "limit, streamed",
    [(0, True), (1, False)],  # MB; 51 images of 12 × 12 × 3 have 22 kB
)
def test_a_tree_beyond_memory_limit_mb_is_streamed(root, limit, streamed):
    assert isinstance(load_stream(root, memory_limit_mb=limit).train_x, ImageStream) == streamed


def test_any_number_of_workers_gives_the_same_batches(mixed):
    options = {"size": 8, "random_resized_crop": 0.2, "memory_limit_mb": 4000}
    one = load_stream(mixed, **options)
    assert isinstance(one.train_x, ImageStream)  # crops are cut from the original images
    first, second = epoch_of(one, 0)[0], epoch_of(one, 1)[0]
    assert not all_equal(first, second) and first[0].shape == (10, 8, 8, 3)
    for count in (1, 4):
        d = load_stream(mixed, num_workers=count, **options)
        assert all_equal(epoch_of(d, 0)[0], first)
        assert all_equal(epoch_of(d, 1, start=2)[0], second[2:])  # by workers that have decoded another epoch
    half = batches(d.train_x, epoch_of(d, 0)[1], 10, 3, 0)
    next(half)  # an epoch that is abandoned in the middle
    assert all_equal(epoch_of(d, 1)[0], second)


def test_a_crop_depends_on_seed_epoch_and_image_alone(mixed):
    d = load_stream(mixed, size=8, random_resized_crop=0.2)

    def by_image(**options):
        found, plan = epoch_of(d, **options)
        return dict(zip(plan.order.tolist(), torch.cat(found)))

    def agreement(a, b):
        return [torch.equal(a[k], b[k]) for k in a.keys() & b.keys()]

    base = by_image(batch_size=10)
    assert all(agreement(base, by_image(batch_size=7)))
    assert sum(agreement(base, by_image(epoch=1))) < 5 and sum(agreement(base, by_image(seed=4))) < 5


def test_a_crop_is_its_box_of_the_image(mixed):
    d = load_stream(mixed, size=8, random_resized_crop=0.2)
    found, plan = epoch_of(d, epoch=5)
    index = int(plan.order[13])
    with Image.open(d.train_x.files[index]) as image:
        box = random_resized_crop_box(*image.size, 0.2, np.random.default_rng((3, 5, index)))
        want = image.resize((8, 8), Image.Resampling.BILINEAR, box)
    assert np.array_equal(found[1][3].numpy(), np.asarray(want))


def test_wait_share_is_of_the_seconds_and_missing_for_a_tensor(root):
    d = load_stream(root)
    epoch_of(d)
    seconds = d.train_x.wait_timer.seconds()
    assert seconds > 0 and wait_share(d.train_x, 2 * seconds) == {"wait": 0.5}
    assert wait_share(torch.zeros(2), 1.0) == {}


@pytest.mark.parametrize("limit", [0, 4000])
def test_images_of_several_sizes_need_data_size(mixed, limit):
    with pytest.raises(DataError, match="set data.size"):
        epoch_of(load_stream(mixed, memory_limit_mb=limit, on_error="skip"))


@CUDA
def test_a_stream_to_cuda(mixed):
    d = load_stream(mixed, size=8, random_resized_crop=0.2, num_workers=2)
    want, plan = epoch_of(d)
    x = d.train_x.to("cuda")
    plan = epoch_plan(len(x), d.shape, config.Data(), config.Augment(), 3, 0, "cuda")
    got = [*x.batches(plan, 10, 3, 0)]
    assert all(b.device.type == "cuda" for b in got) and all_equal([b.cpu() for b in got], want)
    assert x.wait_timer.seconds() > 0 and x[:2].device.type == "cuda"
