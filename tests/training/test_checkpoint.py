"""Checkpoints that do not fit the run are refused."""

import shutil

import pytest
import torch

from nets.common import tensorfile
from nets.common.errors import CheckpointError, DataError, UsageError
from nets.data import datasets as data
from tests.training.ended_runs import make, run_of

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_resuming_with_another_config_is_refused(stopped_run):
    with pytest.raises(UsageError, match=r"train\.lr: .* was trained with 0\.1, now it is 0\.2"):
        run_of(make("", ["train.lr=0.2"]), stopped_run).train(resume=True)
    with pytest.raises(UsageError, match=r"net\.layers"):
        run_of(make("", ["net.layers.0.out_channels=31"]), stopped_run).train(resume=True)


def swapped(data):
    data.train_y[data.train_y < 2] = 1 - data.train_y[data.train_y < 2]


def renamed(data):
    data.classes = ("zero", *data.classes[1:])


def other_test_image(data):
    data.test_x[7, 3, 3] += 1


def other_mean(data):
    data.mean = data.mean + 1e-6


@pytest.mark.parametrize(
    "change, words",
    [
        (swapped, "train labels"),
        (renamed, "classes"),
        (other_test_image, "test samples"),
        (other_mean, "train samples"),
        (lambda data: data.test_y.fill_(1), "test labels"),
    ],
)
def test_resuming_on_other_data_is_refused(change, words, stopped_run, monkeypatch):
    real = data.LOADERS["digits"]

    def other(*args):
        found = real(*args)
        change(found)
        return found

    monkeypatch.setitem(data.LOADERS, "digits", other)
    for resume in (True, "inexact"):
        with pytest.raises(DataError, match=f"not the data that .* was trained on: other {words}$"):
            run_of(make(""), stopped_run).train(resume=resume)


@pytest.mark.parametrize("name, change", [
    ("optimizer.velocity.13.weight", lambda t: t.double()),
    ("optimizer.velocity.13.weight", lambda t: t[:1]),
    ("log.epoch", lambda t: None),
    ("random.cpu", lambda t: t[:, :7]),
    ("net.0.weight", lambda t: t.flatten()),
])  # fmt: skip
def test_a_checkpoint_whose_tensors_do_not_fit_is_refused(name, change, stopped_run, tmp_path):
    tensors, words = tensorfile.read(stopped_run / "last.safetensors")
    tensors[name] = change(tensors[name])
    tensors = {k: t for k, t in tensors.items() if t is not None}
    tensorfile.save(tmp_path / "last.safetensors", tensors, words)
    run = run_of(make(""), tmp_path)
    before = {k: t.clone() for k, t in run.net.params.items()}
    with pytest.raises(CheckpointError, match="random" if "random" in name else name):
        run.train(resume=True)
    assert all(torch.equal(t, before[k]) for k, t in run.net.params.items())


@pytest.mark.parametrize(
    "change",
    [
        {"progress": {"epoch": "x", "step": 0}},
        {"progress": {"epoch": -1, "step": 0}},
        {"progress": {"epoch": 1, "step": 10**6}},
        {"progress": {"epoch": 0.5, "step": 0}},
        {"progress": {"epoch": 0}},
        {"progress": 5},
        {"config": 7},
        {"config": "a ="},
        {"config": "a = " + "[" * 10_000},
        {"config": "seed = " + hex(16**5000)},
        {"format": 3},
        {"exact": None},
        {"exact": {"torch": "1"}},
        {"data": 7},
        {"data": {"train labels": 7}},
        {"hooks": 5},
        {"hooks": {}},
        *({"hooks": {name: state}} for name in ("clock", "evaluate", "log") for state in (None, 7, {}, [])),
        {"hooks": {"clock": {"seconds": 10**400}}},
        {"hooks": {"clock": {"seconds": -1}}},
        {"hooks": {"clock": {"seconds": None}}},
        {"hooks": {"evaluate": {"best": "x"}}},
        {"hooks": {"evaluate": {"best": 10**400}}},
        {"hooks": {"log": {"mark": None}}},
        {"hooks": {"log": {"mark": {}}}},
        {"hooks": {"log": {"mark": {"metrics": -1, "times": 10**400, "sha256": 3}}}},
    ],
)
def test_a_checkpoint_whose_words_do_not_fit_is_refused(change, stopped_run, tmp_path):
    tensors, words = tensorfile.read(stopped_run / "last.safetensors")
    if change.get("hooks") not in (5, {}) and "hooks" in change:
        change = {"hooks": words["hooks"] | change["hooks"]}
    tensorfile.save(tmp_path / "last.safetensors", tensors, words | change)
    with pytest.raises(CheckpointError):
        run_of(make(""), tmp_path).train(resume=True)


def test_a_partial_checkpoint_of_a_killed_process_is_removed(stopped_run, tmp_path):
    shutil.copytree(stopped_run, tmp_path / "run")
    (tmp_path / "run/.last.safetensors.1.part").write_bytes(b"half")
    run_of(make(""), tmp_path / "run").train(resume=True)
    assert not list((tmp_path / "run").glob(".*"))
