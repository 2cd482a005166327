"""A data set's digests: equal for equal samples, different where a sample or a label is."""

import dataclasses

import pytest
import torch

from nets.data import datasets
from nets.data.datasets import Dataset
from nets.data.digest import comparable, digest, parts
from nets.training.config import Data
from tests.data.trees import load_stream, make_tree, write_image


def data():
    x, y = torch.arange(24.0).view(6, 4), torch.arange(6) % 3
    return Dataset(x, y, x + 1, y.clone(), ("a", "b", "c"))


@pytest.mark.parametrize("name", ["train_x", "train_y", "test_x", "test_y"])
def test_every_number_counts(name):
    whole, other = data(), data()
    assert digest(whole) == digest(other) and set(parts(whole)) == {
        "train samples", "train labels", "test samples", "test labels"
    }  # fmt: skip
    getattr(other, name)[2] += 1
    kind = "samples" if name.endswith("x") else "labels"
    different = [k for k, v in parts(whole).items() if parts(other)[k] != v]
    assert different == [f"{name.split('_')[0]} {kind}"] and digest(whole) != digest(other)


def test_dtype_shape_classes_and_the_validation_split_count():
    whole = data()
    others = [
        dataclasses.replace(whole, train_y=whole.train_y.int()),
        dataclasses.replace(whole, train_x=whole.train_x.view(6, 2, 2)),
        dataclasses.replace(whole, classes=("a", "b", "d")),
        datasets.hold_out(whole, 0.5),
    ]
    assert len({digest(d) for d in [whole, *others]}) == 5
    assert "val samples" in parts(others[-1])


def test_a_stream_counts_by_names_sizes_and_labels(tmp_path):
    root = make_tree(tmp_path / "a", count=2)
    make_tree(tmp_path / "b", count=2)
    first = parts(load_stream(root))
    assert first == parts(load_stream(tmp_path / "b"))
    memory = parts(datasets.load(Data("folder", str(root))))
    assert memory["train labels"] == first["train labels"]
    assert not comparable(memory["train samples"], first["train samples"])
    write_image(tmp_path / "b/train/ant/0.png", size=(12, 12), value=3)
    assert parts(load_stream(tmp_path / "b"))["train samples"] != first["train samples"]
    (tmp_path / "b/test/ant/1.png").rename(tmp_path / "b/test/bee/9.png")
    second = parts(load_stream(tmp_path / "b"))
    assert second["test labels"] != first["test labels"]
