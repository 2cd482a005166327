"""Image trees to test with, and their batches."""

import zlib

import numpy as np
import torch
from PIL import Image

from nets.data import datasets
from nets.data.augment import crop_and_flip
from nets.data.sampler import epoch_plan
from nets.data.stream import ImageStream
from nets.training import config


def write_image(path, value=None, size=(6, 6), mode="RGB"):
    """A random image of rows × columns, the same for the same file name, or one of a single value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = zlib.crc32(str(path.name).encode())
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    if value is not None:
        pixels[:] = value
    Image.fromarray(pixels).convert(mode).save(path)


def make_tree(root, count=14, side=12, test="test", names=("ant", "bee", "cow")):
    """count training images and 3 test images per class; of several shapes if side is None."""
    rng = np.random.default_rng(0)
    for split, n in (("train", count), (test, 3)):
        for name in names:
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                h, w = (side, side) if side else rng.integers(9, 40, 2)
                pixels = rng.integers(0, 256, (h, w, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def load_stream(root, random_resized_crop=0.0, **options):
    """The tree as a data set; a stream unless memory_limit_mb is given."""
    options = {"memory_limit_mb": 0, "num_workers": 0} | options
    augment = config.Augment(random_resized_crop=random_resized_crop)
    return datasets.load(config.Data(source="folder", root=str(root), **options), augment)


def batches(x, plan, batch_size, seed, epoch, start=0):
    """An epoch's batches of a stream, or of a tensor."""
    if isinstance(x, ImageStream):
        return x.batches(plan, batch_size, seed, epoch, start)
    begins = range(start * batch_size, len(plan.order) - batch_size + 1, batch_size)
    return (crop_and_flip(x, plan.batch(i, i + batch_size)) for i in begins)


def epoch_of(data, epoch=0, start=0, seed=3, batch_size=10, augment=None):
    """(the batches of one epoch, its plan)."""
    augment = augment or config.Augment()
    plan = epoch_plan(len(data.train_x), data.shape, config.Data(), augment, seed, epoch, "cpu")
    return list(batches(data.train_x, plan, batch_size, seed, epoch, start)), plan


def all_equal(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b))
