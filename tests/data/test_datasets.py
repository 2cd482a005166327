"""Data sets: shapes, labels and statistics of each source."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nets.data import datasets
from nets.training import config

ROOT = Path(__file__).parents[2]


def load(source="digits", **options):
    return datasets.load(config.Data(source=source, **options))


def test_digits():
    d = load()
    assert d.train_x.shape == (1437, 8, 8, 1) and d.test_x.shape == (360, 8, 8, 1)
    assert d.train_x.dtype == torch.uint8 and d.train_x.max() == 255
    counts = torch.bincount(d.test_y)
    assert counts.min() >= 35 and counts.max() <= 37  # stratified
    again = load()
    assert torch.equal(d.train_x, again.train_x) and torch.equal(d.test_y, again.test_y)
    both = torch.cat([d.train_x, d.test_x]).flatten(1)
    assert len(both) == 1797
    x = d.train_x.double() / 255
    assert d.mean.item() == pytest.approx(x.mean().item(), abs=1e-6)
    assert d.std.item() == pytest.approx(x.std(correction=0).item(), abs=1e-6)


@pytest.mark.parametrize("source", ["digits", "identity", "half_adder"])
def test_known_shapes_are_the_real_ones(source):
    d = load(source)
    assert datasets.shapes(config.Data(source=source)) == (d.shape, d.num_outputs)


def test_half_adder():
    d = load("half_adder")
    for (a, b), (total, carry) in zip(d.train_x.tolist(), d.train_y.tolist()):
        assert a + b == total + 2 * carry


def test_shape_is_the_input_of_the_net():
    x, y = torch.zeros(2, 9, 8, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    mean = std = torch.ones(3)
    assert datasets.Dataset(x, y, x, y, ("a", "b"), mean, std).shape == (3, 9, 8)
    d = datasets.Dataset(x, y, x, y, ("a", "b"), mean, std, crop_size=6)
    assert d.shape == (3, 6, 6) and d.num_outputs == 2
    inputs, outputs = torch.zeros(2, 5, 7), torch.zeros(2, 4)  # without a mean: no images
    d = datasets.Dataset(inputs, outputs, None, None)
    assert d.shape == (5, 7) and d.num_outputs == 4


def test_a_folder_has_its_classes_and_statistics(small_tree):
    d = load("folder", root=str(small_tree))
    assert d.classes == ("cat", "dog", "emu") and d.shape == (3, 6, 6)
    assert d.train_y.tolist() == [0] * 3 + [1] * 3 + [2] * 3 and len(d.test_y) == 6
    x = d.train_x.double() / 255
    torch.testing.assert_close(d.mean.double(), x.mean((0, 1, 2)), rtol=0, atol=1e-6)
    torch.testing.assert_close(d.std.double(), x.flatten(0, 2).std(0, correction=0), rtol=0, atol=1e-6)


def test_normalize_mean_keeps_the_scale_of_bytes(small_tree):
    d = load("folder", root=str(small_tree), normalize="mean")
    assert torch.equal(d.std, torch.full((3,), 1 / 255))


def test_cifar_as_an_image_tree(small_tree):
    d = load("cifar10", root=str(small_tree))
    assert d.classes == ("cat", "dog", "emu")
    inner = small_tree / "cifar100"
    inner.mkdir()
    for split in ("train", "test"):
        (small_tree / split).rename(inner / split)
    assert len(load("cifar100", root=str(small_tree)).train_y) == 9


def test_an_image_tree_is_read_without_torchvision_and_sklearn(small_tree):
    """In a process of its own, in which both are missing."""
    code = f"""
import sys
for name in ("torchvision", "sklearn", "matplotlib"):
    sys.modules[name] = None
from nets.data import augment, cifar, datasets, decoder, folder, images, sampler, selection, stream, tree, tta
from nets.training import config
for source in ("folder", "cifar10"):
    print(len(datasets.load(config.Data(source=source, root={str(small_tree)!r})).train_y))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "9\n9\n", done.stderr


def test_shared_cifar10():
    """The real data set, where it is unpacked beside the project."""
    root = Path(os.environ.get("CIFAR10_ROOT", ROOT / "data" / "cifar10"))
    if not (root / "train").is_dir():
        pytest.skip(f"needs CIFAR-10 as an image tree in {root}, or CIFAR10_ROOT")
    d = load("folder", root=str(root))
    assert d.train_x.shape == (50_000, 32, 32, 3) and d.test_x.shape == (10_000, 32, 32, 3)
    assert d.mean.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)
    assert d.std.tolist() == pytest.approx([0.2470, 0.2435, 0.2616], abs=1e-4)
    assert torch.bincount(d.train_y).tolist() == [5000] * 10
