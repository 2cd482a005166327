"""Data sets: what is read, what is cached, and what is said of a damaged tree."""

import os
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nets.common import tensorfile
from nets.common.errors import DataError
from nets.data import datasets as data
from nets.data import folder
from nets.training import config


def picture(path, value=None, size=(6, 6), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = zlib.crc32(str(path.name).encode())
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    if value is not None:
        pixels[:] = value
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def tree(tmp_path):
    for split, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog", "emu"):
            for i in range(count):
                picture(tmp_path / split / name / f"{split}{i}.png")
    return tmp_path


def load(root, **options):
    return data.load(config.Data(source="folder", root=str(root), **options))


def test_digits():
    d = data.load(config.Data())
    assert d.train_x.shape == (1437, 8, 8, 1) and d.test_x.shape == (360, 8, 8, 1)
    assert d.train_x.dtype == torch.uint8 and d.train_x.max() == 255
    counts = torch.bincount(d.test_y)
    assert counts.min() >= 35 and counts.max() <= 37  # stratified
    again = data.load(config.Data())
    assert torch.equal(d.train_x, again.train_x) and torch.equal(d.test_y, again.test_y)
    both = torch.cat([d.train_x, d.test_x]).flatten(1)
    assert len(both) == 1797
    x = d.train_x.double() / 255
    assert d.mean.item() == pytest.approx(x.mean().item(), abs=1e-6)
    assert d.std.item() == pytest.approx(x.std(correction=0).item(), abs=1e-6)


@pytest.mark.parametrize("source", ["digits", "identity", "half_adder"])
def test_known_shapes_are_the_real_ones(source):
    d = data.load(config.Data(source=source))
    assert data.shapes(config.Data(source=source)) == (d.shape, d.num_outputs)


def test_half_adder():
    d = data.load(config.Data(source="half_adder"))
    for (a, b), (total, carry) in zip(d.train_x.tolist(), d.train_y.tolist()):
        assert a + b == total + 2 * carry


def test_folder(tree):
    d = load(tree)
    assert d.classes == ("cat", "dog", "emu") and d.shape == (3, 6, 6)
    assert d.train_y.tolist() == [0] * 3 + [1] * 3 + [2] * 3 and len(d.test_y) == 6
    want = np.asarray(Image.open(tree / "train" / "dog" / "train1.png"))
    assert np.array_equal(d.train_x[4].numpy(), want)
    assert d.std.shape == d.mean.shape == (3,)


def test_folder_is_decoded_once(tree, monkeypatch):
    first = load(tree)
    monkeypatch.setattr(folder, "_decode_all", None)  # calling it would raise
    second = load(tree)
    assert torch.equal(first.train_x, second.train_x) and torch.equal(first.test_y, second.test_y)


@pytest.mark.parametrize(
    "change", ["new file", "other bytes", "gone", "other size", "damaged cache", "other tensors"]
)
def test_a_changed_folder_is_decoded_again(tree, change):
    load(tree)
    path = tree / "train" / "cat" / "train0.png"
    options = {}
    if change == "new file":
        picture(tree / "train" / "emu" / "more.png")
    elif change == "other bytes":
        picture(path, value=7)
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    elif change == "gone":
        path.unlink()
    elif change == "other size":
        options = {"size": 4}
    elif change == "other tensors":
        _, words = tensorfile.read(tree / folder.CACHE)
        tensorfile.save(tree / folder.CACHE, {"train_x": torch.ones(2)}, words)
    else:
        (tree / folder.CACHE).write_bytes(b"\xff" * 100)
    d = load(tree, **options)
    assert len(d.train_y) == {"new file": 10, "gone": 8}.get(change, 9)
    assert (d.train_x[0] == 7).all() == (change == "other bytes")
    assert d.shape == ((3, 4, 4) if options else (3, 6, 6))


def test_a_folder_that_cannot_be_written_is_read_all_the_same(tree, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensorfile.os, "replace", full)
    assert len(load(tree).train_y) == 9
    assert not (tree / folder.CACHE).exists() and not list(tree.glob("*.part"))


def test_gray_pictures(tree):
    assert load(tree, channels=1).shape == (1, 6, 6)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda t: shutil.rmtree(t), "no such folder"),
        (lambda t: shutil.rmtree(t / "test"), "has no test/ folder"),
        (lambda t: shutil.rmtree(t / "train"), "has no train/ folder"),
        (lambda t: [shutil.rmtree(p) for p in (t / "train").iterdir()], "no class folders"),
        (lambda t: [shutil.rmtree(t / "train" / n) for n in ("cat", "dog")], "has one class"),
        (lambda t: (t / "train" / "a\nb").mkdir(), "is no name for a class"),
        (lambda t: (t / "train" / "x\udcff").mkdir(), "is no name for a class"),
        (lambda t: shutil.rmtree(t / "test" / "dog"), "class dog is missing"),
        (lambda t: (t / "test" / "dgo").mkdir(), 'class not in train/; did you mean "dog"'),
        (lambda t: [p.unlink() for p in (t / "train" / "dog").iterdir()], "dog: no pictures"),
        (lambda t: (t / "train/dog/train1.png").write_bytes(b""), "dog/train1.png: not a picture"),
        (lambda t: (t / "train/dog/train1.png").write_text("hello"), "dog/train1.png: not a picture"),
        (lambda t: truncate(t / "test/emu/test1.png"), "emu/test1.png: not a picture"),
        (lambda t: picture(t / "train/emu/train2.png", size=(7, 6)), "train2.png: 6 × 7 pixels"),
        (lambda t: [picture(p, size=(9, 9)) for p in t.glob("test/*/*")], "differ in size"),
    ],
)
def test_a_damaged_tree(tree, damage, message):
    damage(tree)
    with pytest.raises(DataError) as e:
        load(tree)
    assert message in str(e.value)
    assert not (tree / folder.CACHE).exists()


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


def test_cifar_as_a_tree_of_folders(tree):
    d = data.load(config.Data(source="cifar10", root=str(tree)))
    assert d.classes == ("cat", "dog", "emu")
    inner = tree / "cifar100"
    inner.mkdir()
    for split in ("train", "test"):
        (tree / split).rename(inner / split)
    assert len(data.load(config.Data(source="cifar100", root=str(tree))).train_y) == 9


def test_no_network(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    root = tmp_path / "new"
    with pytest.raises(DataError, match="point --data-root at the folder that holds cifar-100-python"):
        data.load(config.Data(source="cifar100", root=str(root)))
    assert not root.exists()


def test_shared_cifar10():
    """The real data set, where it has been unpacked beside the project."""
    root = Path(os.environ.get("CIFAR10_ROOT", Path(__file__).parents[2] / "data" / "cifar10"))
    if not (root / "train").is_dir():
        pytest.skip(f"needs CIFAR-10 as a tree of folders in {root}, or CIFAR10_ROOT")
    d = load(root)
    assert d.train_x.shape == (50_000, 32, 32, 3) and d.test_x.shape == (10_000, 32, 32, 3)
    assert d.mean.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)
    assert d.std.tolist() == pytest.approx([0.2470, 0.2435, 0.2616], abs=1e-4)
    assert torch.bincount(d.train_y).tolist() == [5000] * 10
