"""Image trees in memory: the pixels, the cache, and errors that name the damaged file."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from nets.common import files, tensorfile
from nets.common.errors import DataError
from nets.data import datasets, folder
from nets.training import config
from tests.data.trees import write_image


def load(root, **options):
    return datasets.load(config.Data(source="folder", root=str(root), **options))


def test_images_are_decoded_in_label_order(small_tree):
    d = load(small_tree)
    want = np.asarray(Image.open(small_tree / "train" / "dog" / "train1.png"))
    assert np.array_equal(d.train_x[4].numpy(), want)


def test_gray_images(small_tree):
    assert load(small_tree, channels=1).shape == (1, 6, 6)


def test_a_folder_is_decoded_once(small_tree, monkeypatch):
    first = load(small_tree)
    monkeypatch.setattr(folder, "_decode_all", None)  # calling it would raise
    second = load(small_tree)
    assert torch.equal(first.train_x, second.train_x) and torch.equal(first.test_y, second.test_y)


@pytest.mark.parametrize(
    "change", ["new file", "other bytes", "gone", "other size", "damaged cache", "other tensors"]
)
def test_a_changed_folder_is_decoded_again(small_tree, change):
    load(small_tree)
    path = small_tree / "train" / "cat" / "train0.png"
    options = {}
    if change == "new file":
        write_image(small_tree / "train" / "emu" / "more.png")
    elif change == "other bytes":
        write_image(path, value=7)
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    elif change == "gone":
        path.unlink()
    elif change == "other size":
        options = {"size": 4}
    elif change == "other tensors":
        _, metadata = tensorfile.read(small_tree / folder.CACHE)
        tensorfile.save(small_tree / folder.CACHE, {"train_x": torch.ones(2)}, metadata)
    else:
        (small_tree / folder.CACHE).write_bytes(b"\xff" * 100)
    d = load(small_tree, **options)
    assert len(d.train_y) == {"new file": 10, "gone": 8}.get(change, 9)
    assert (d.train_x[0] == 7).all() == (change == "other bytes")
    assert d.shape == ((3, 4, 4) if options else (3, 6, 6))


SPOILED = {  # a cache with the right key and checksum, and something else inside
    "a label of no class": lambda t, m: t["train_y"].__setitem__(0, 99),
    "a negative label": lambda t, m: t["train_y"].__setitem__(0, -1),
    "a huge label": lambda t, m: t["test_y"].__setitem__(0, 2**40),
    "another class": lambda t, m: t["test_y"].__setitem__(0, 1),
    "too few labels": lambda t, m: t.update(train_y=t["train_y"][:5]),
    "labels of another type": lambda t, m: t.update(train_y=t["train_y"].int()),
    "no rows": lambda t, m: t.update({k: v[:0] for k, v in t.items()}),
    "one image less": lambda t, m: t.update({k: v[:-1] for k, v in t.items()}),
    "one channel": lambda t, m: t.update({k: v[..., :1] for k, v in t.items() if "x" in k}),
    "another size": lambda t, m: t.update({k: v[:, :3] for k, v in t.items() if "x" in k}),
    "splits of two sizes": lambda t, m: t.update(test_x=t["test_x"][:, :4, :4]),
    "no height": lambda t, m: t.update({k: v[:, :0] for k, v in t.items() if "x" in k}),
    "a vector": lambda t, m: t.update(train_x=t["train_x"].flatten()),
    "another type": lambda t, m: t.update(train_x=t["train_x"].float()),
    "a tensor missing": lambda t, m: t.pop("test_y"),
    "a tensor more": lambda t, m: t.update(more=t["test_y"]),
    "no list of skipped files": lambda t, m: m.pop("skipped"),
    "a list for skipped files": lambda t, m: m.update(skipped=["a"]),
    "an unknown skipped file": lambda t, m: m.update(skipped={"nowhere": "gone"}),
    "a number for a reason": lambda t, m: m.update(skipped={"nowhere": 5}),
}


@pytest.mark.parametrize("spoil", SPOILED)
def test_a_cache_that_does_not_hold_the_trees_images_is_not_used(small_tree, spoil):
    want = load(small_tree, size=6)
    tensors, metadata = tensorfile.read(small_tree / folder.CACHE)
    SPOILED[spoil](tensors, metadata)
    tensorfile.save(small_tree / folder.CACHE, tensors, metadata)
    d = load(small_tree, size=6)
    assert torch.equal(d.train_x, want.train_x) and torch.equal(d.train_y, want.train_y)
    assert torch.equal(d.test_x, want.test_x) and torch.equal(d.test_y, want.test_y) and not d.skipped


def test_a_cache_keeps_which_files_were_skipped(small_tree, monkeypatch):
    (small_tree / "train/dog/train1.png").write_bytes(b"")
    first = load(small_tree, on_error="skip")
    monkeypatch.setattr(folder, "_decode_all", None)  # calling it would raise
    second = load(small_tree, on_error="skip")
    assert first.skipped == second.skipped and len(second.train_y) == len(second.train_x) == 8


def test_a_folder_that_cannot_be_written_is_read_without_a_cache(small_tree, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    assert len(load(small_tree).train_y) == 9
    assert "note: images are not cached" in capsys.readouterr().err
    assert not (small_tree / folder.CACHE).exists() and not list(small_tree.glob("*.part"))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda t: shutil.rmtree(t), "no such folder"),
        (lambda t: shutil.rmtree(t / "test"), "has no test/ folder"),
        (lambda t: shutil.rmtree(t / "train"), "has no train/ folder"),
        (lambda t: [shutil.rmtree(p) for p in (t / "train").iterdir()], "no class folders"),
        (lambda t: [shutil.rmtree(t / "train" / n) for n in ("cat", "dog")], "has one class"),
        (lambda t: (t / "train" / "a\nb").mkdir(), "is not a printable class name"),
        (lambda t: (t / "train" / "x\udcff").mkdir(), "is not a printable class name"),
        (lambda t: shutil.rmtree(t / "test" / "dog"), "class dog is missing"),
        (lambda t: (t / "test" / "dgo").mkdir(), 'class not in train/; did you mean "dog"'),
        (lambda t: [p.unlink() for p in (t / "train" / "dog").iterdir()], "dog: no images"),
        (lambda t: (t / "train/dog/train1.png").write_bytes(b""), "dog/train1.png: not a readable image"),
        (lambda t: (t / "train/dog/train1.png").write_text("hello"), "dog/train1.png: not a readable image"),
        (lambda t: truncate(t / "test/emu/test1.png"), "emu/test1.png: not a readable image"),
        (lambda t: write_image(t / "train/emu/train2.png", size=(7, 6)), "train2.png: 6 × 7 pixels"),
        (lambda t: [write_image(p, size=(9, 9)) for p in t.glob("test/*/*")], "differ in size"),
    ],
)
def test_a_damaged_tree_is_named_and_not_cached(small_tree, damage, message):
    damage(small_tree)
    with pytest.raises(DataError) as e:
        load(small_tree)
    assert message in str(e.value)
    assert not (small_tree / folder.CACHE).exists()


def test_skip_fails_if_a_class_has_no_readable_file(small_tree):
    for path in (small_tree / "train" / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no other file of its class can be read"):
        load(small_tree, on_error="skip")
