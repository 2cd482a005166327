"""When checkpoints are written, and the best one."""

import dataclasses
import errno

import pytest
import torch

from nets.common import files, tensorfile
from nets.common.errors import CheckpointError
from nets.tools import survive
from nets.training import checkpoint, predict
from nets.training.hooks import Evaluate
from tests.training.ended_runs import CPU, Gone, make, run_of

pytestmark = pytest.mark.usefixtures("no_pictures")


VALIDATED = ["train.epochs=4", "data.validation=0.2"]


@pytest.fixture
def scores(monkeypatch):
    """The second of four epochs is the best."""
    real = Evaluate.validate

    def validate(hook, run):
        found = real(hook, run)
        return dataclasses.replace(found, top1=(0.2, 0.5, 0.4, 0.5)[run.progress.epoch])

    monkeypatch.setattr(Evaluate, "validate", validate)


def words(out, name):
    """(epoch, best score) of a checkpoint."""
    found = tensorfile.read(out / f"{name}.safetensors")[1]
    return found["progress"]["epoch"], found["hooks"]["evaluate"]["best"]


def test_the_best_checkpoint_is_kept_beside_the_last(tmp_path, scores):
    run = run_of(make("", VALIDATED), tmp_path)
    run.train()
    assert words(tmp_path, "best") == (2, 0.5) and words(tmp_path, "last") == (4, 0.5)
    kept, newest = (predict.Trained(tmp_path, CPU, best).net.params for best in (True, False))
    assert all(torch.equal(newest[k], w) for k, w in run.net.params.items())
    assert not any(torch.equal(newest[k], w) for k, w in kept.items())


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_run_killed_between_its_two_checkpoints_still_writes_the_best(epoch, tmp_path, scores, monkeypatch):
    conf, count = make("", VALIDATED), 0
    run_of(conf, tmp_path / "alone").train()
    real = files.link

    def killed(*paths):
        nonlocal count
        count += 1
        if count == epoch:
            raise Gone
        real(*paths)

    with monkeypatch.context() as patch, pytest.raises(Gone):
        patch.setattr(files, "link", killed)
        run_of(conf, tmp_path / "again").train()
    run_of(conf, tmp_path / "again").train(resume=True)
    assert words(tmp_path / "again", "best") == (2, 0.5)
    assert not survive.differences(*(survive.state(tmp_path / name) for name in ("alone", "again")))


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_without_hard_links_the_best_checkpoint_is_a_copy(number, tmp_path, scores, monkeypatch):
    def refuse(*_):
        raise OSError(number, "no links here")

    monkeypatch.setattr(files.os, "link", refuse)
    run_of(make("", ["train.epochs=2", "data.validation=0.2"]), tmp_path).train()
    best, last = (tmp_path / f"{name}.safetensors" for name in ("best", "last"))
    assert not best.samefile(last) and best.read_bytes() == last.read_bytes()


def test_without_a_validation_split_there_is_no_best_checkpoint(tmp_path):
    run_of(make("", ["train.epochs=1"]), tmp_path).train()
    assert not (tmp_path / "best.safetensors").exists()
    with pytest.raises(
        CheckpointError, match=r"has no best checkpoint; a validation split \(data\.validation\)"
    ):
        predict.Trained(tmp_path, CPU, best=True)


def test_checkpoints_by_steps_and_by_seconds(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(checkpoint, "save", lambda run, path: saved.append(run.at()))
    monkeypatch.setattr(files, "link", lambda *_: None)
    own = ["train.epochs=2", "train.eval_every=9", "checkpoint.every_steps=4", "checkpoint.every_seconds=1e9"]
    run_of(make("", own), tmp_path / "a").train()
    assert saved == [0, 4, 8, 10]
    saved.clear()
    run_of(make("", [*own[:2], "checkpoint.every_seconds=0"]), tmp_path / "b").train()
    assert saved == [
        0,
        1,
        2,
        3,
        4,
        5,
        5,
        6,
        7,
        8,
        9,
        10,
        10,
    ]  # after an epoch's last step, and after its test
