"""The digest of a data set: what changes it, and what doesn't."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nets.data import datasets
from nets.data.datasets import Dataset
from nets.data.digest import digest
from nets.training.config import Data


def test_contents_labels_order_and_classes_count():
    x, y = torch.arange(12, dtype=torch.uint8).view(3, 2, 2, 1), torch.tensor([0, 1, 1])
    data = Dataset(x, y, x[:1], y[:1], ("a", "b"))
    same = Dataset(x.clone(), y.clone(), x[:1].clone(), y[:1].clone(), ("a", "b"))
    assert digest(data) == digest(same) and len(digest(data)) == 64
    other = x.clone()
    other[2, 1, 1] += 1
    changes = [{"train_x": other}, {"train_y": y.flip(0)}, {"test_x": None, "test_y": None}]
    changes += [
        {"classes": ("b", "a")},
        {"train_x": x[:2], "train_y": y[:2]},
        {"train_x": x.view(3, 4, 1, 1)},
    ]
    changes += [{"train_x": x.transpose(1, 2)}, {"test_y": y[1:2]}, {"train_y": y.int()}]
    found = [digest(dataclasses.replace(data, **change)) for change in changes]
    assert len({digest(data), *found}) == len(changes) + 1


def tree(root: Path):
    """Two classes, whose files differ in size."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in "ab":
            (root / split / name).mkdir(parents=True)
            for i in range(2):
                pixels = rng.integers(0, 255 if name == "a" else 2, (4, 4, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


@pytest.mark.parametrize("limit", [0, 4000], ids=["streamed", "in memory"])
def test_a_tree_is_the_same_in_another_folder_and_not_with_swapped_labels(limit, tmp_path):
    def of(root):
        return digest(datasets.load(Data(source="folder", root=str(root), memory_limit_mb=limit)))

    first = of(tree(tmp_path / "one"))
    assert first == of(tree(tmp_path / "two"))
    swapped = tree(tmp_path / "three")
    for old, new in (("a", "c"), ("b", "a"), ("c", "b")):
        (swapped / "train" / old).rename(swapped / "train" / new)
    assert of(swapped) != first
    Image.new("RGB", (4, 4)).save(tmp_path / "two/train/b/1.png")
    assert of(tmp_path / "two") != first
