"""Tensor files: what is saved is read back, by safetensors' own library too; restore checks what fits."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from nets.common import tensorfile
from nets.common.errors import CheckpointError
from nets.common.tensorfile import DTYPES, LONGEST, read, save
from nets.layers.containers import Sequential
from nets.layers.linear import Linear


def tensors():
    """Every dtype, no dimension and four, none of a number, two names for one memory, gaps and repeats."""
    x = torch.arange(120.0).view(2, 3, 4, 5)
    kinds = {name: torch.arange(7).to(dtype) for name, dtype in DTYPES.items()}
    last, row = x.contiguous(memory_format=torch.channels_last), torch.arange(8.0)
    shapes = {"scalar": torch.tensor(2.5), "none": torch.empty(0, 3), "channels_last": last, "alias": last}
    return kinds | shapes | {"part": row[2:5], "gaps": row[::2], "expanded": row[:1].expand(3, 1)}


METADATA = {"epoch": 3, "classes": ["a", "ä", '"'], "rows": [{"loss": 0.1}, None, True], "empty": {}}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and torch.equal(a[k], b[k]) for k in a
    )


def test_read_returns_what_was_saved(tmp_path):
    path, saved = tmp_path / "a.safetensors", tensors()
    save(path, saved, METADATA)
    found, metadata = read(path)
    assert same(found, saved) and metadata == METADATA
    found["alias"][:] = 0
    assert not torch.equal(found["alias"], found["channels_last"])  # a copy each


def test_safetensors_reads_the_file(tmp_path):
    save(tmp_path / "a.safetensors", tensors(), METADATA)
    assert same(load_file(tmp_path / "a.safetensors"), tensors())
    with safe_open(tmp_path / "a.safetensors", "pt") as f:
        assert json.loads(f.metadata()["words"]) == METADATA


def test_an_empty_file_of_tensors(tmp_path):
    save(tmp_path / "a.safetensors", {}, {})
    assert read(tmp_path / "a.safetensors") == ({}, {})


def test_metadata_that_is_too_long_is_not_saved(tmp_path):
    with pytest.raises(CheckpointError, match="can't be saved"):
        save(tmp_path / "a.safetensors", {}, {"a": "x" * LONGEST})
    assert not list(tmp_path.iterdir())


def test_restore_names_what_differs(tmp_path):
    net = Sequential(Linear(3, 2))
    good = {f"net.{k}": torch.full_like(t, 2) for k, t in net.params.items()}
    tensorfile.restore(net, good | {"momentum.0.weight": torch.zeros(1)}, "a")
    assert all((t == 2).all() for t in net.params.values())
    for change, message in [
        ({"net.0.weight": torch.zeros(2, 4)}, r"0.weight is \(2, 4\), not \(2, 3\)"),
        ({"net.0.weight": torch.zeros(2, 3).double()}, "0.weight is torch.float64, not torch.float32"),
        ({"net.0.weight": torch.zeros(2, 3).bool()}, "0.weight is torch.bool, not torch.float32"),
        ({"net.1.weight": torch.zeros(2, 3)}, "the net has no 1.weight"),
    ]:
        with pytest.raises(CheckpointError, match=f"a: doesn't match its config: {message}"):
            tensorfile.restore(net, {k: t * 0 for k, t in good.items()} | change, "a")
    with pytest.raises(CheckpointError, match=r"has no tensor 0\.bias"):
        tensorfile.restore(net, {"net.0.weight": torch.zeros(2, 3)}, "a")
    assert all((t == 2).all() for t in net.params.values())  # all or nothing
