"""A share of every class is held out, the same each time: of images in memory, of streams, and of outputs."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nets.common.errors import DataError
from nets.data import datasets
from nets.data.datasets import Dataset
from nets.data.validation import split
from nets.training.config import Data
from tests.data.trees import make_tree


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0, 0.9))
def test_every_class_gives_its_share_and_keeps_a_sample(classes, share):
    y = torch.tensor(classes)
    train, val = split(y, share)
    assert sorted([*train.tolist(), *val.tolist()]) == [*range(len(y))]
    for label, count in zip(*y.unique(return_counts=True)):
        held = int((y[val] == label).sum())
        assert held == min(round(float(count) * share), int(count) - 1)
    assert all(torch.equal(a, b) for a, b in zip(split(y, share), (train, val)))


def test_digits_without_the_held_out_images():
    whole, data = (datasets.load(Data(validation=share)) for share in (0.0, 0.1))
    assert whole.val_x is None and data.val_x is not None and data.val_y is not None
    assert (len(data.train_x), len(data.val_x)) == (1295, 142) and torch.equal(data.test_x, whole.test_x)
    assert data.val_y.bincount().min() >= 13
    images = lambda *parts: np.unique(torch.cat(parts).flatten(1).numpy(), axis=0)  # noqa: E731
    assert np.array_equal(images(data.train_x, data.val_x), images(whole.train_x))
    mean, std = datasets.channel_statistics(data.train_x)
    assert torch.equal(data.mean, mean) and torch.equal(data.std, std) and not torch.equal(mean, whole.mean)


def test_a_stream_holds_out_the_images_that_memory_does(tmp_path):
    make_tree(tmp_path, count=6)
    config = Data("folder", str(tmp_path), size=8, validation=0.34, num_workers=0)
    memory = datasets.load(config)
    stream = datasets.load(dataclasses.replace(config, memory_limit_mb=0))
    for name in ("train", "val", "test"):
        x, y = getattr(stream, f"{name}_x"), getattr(stream, f"{name}_y")
        assert torch.equal(y, getattr(memory, f"{name}_y"))
        assert torch.equal(torch.cat([*x.split(3)]), getattr(memory, f"{name}_x"))
    assert torch.equal(stream.mean, memory.mean)


def test_a_std_that_is_not_the_samples_stays(tmp_path):
    make_tree(tmp_path, count=6)
    data = datasets.load(Data("folder", str(tmp_path), size=8, normalize="mean", validation=0.34))
    assert torch.equal(data.std, torch.full((3,), 1 / 255))


def test_outputs_are_held_out_too_and_too_small_a_share_is_refused():
    x = torch.arange(10.0)[:, None]
    data = datasets.hold_out(Dataset(x, x, None, None), 0.3)
    assert len(data.train_x) == 7 and torch.equal(data.val_x, data.val_y) and data.mean is None
    with pytest.raises(DataError, match=r"data\.validation: 0\.04 of the training samples of any class is"):
        datasets.hold_out(Dataset(x, x, None, None), 0.04)
