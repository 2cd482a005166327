"""When checkpoints are written, and the best one."""

import dataclasses

import pytest
import torch

from nets.common import files, tensorfile
from nets.training import checkpoint, predict
from nets.training.hooks import Evaluate
from tests.training.ended_runs import CPU, make, run_of

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_the_best_checkpoint_is_kept_beside_the_last(tmp_path, monkeypatch):
    run = run_of(make("", ["train.epochs=4"]), tmp_path)
    scores, real = iter([0.2, 0.5, 0.4, 0.5]), Evaluate.test
    monkeypatch.setattr(Evaluate, "test", lambda *args: dataclasses.replace(real(*args), top1=next(scores)))
    run.train()
    best, last = (tensorfile.read(tmp_path / f"{name}.safetensors")[1] for name in ("best", "last"))
    assert (best["progress"]["epoch"], best["hooks"]["evaluate"]["best"]) == (2, 0.5)
    assert (last["progress"]["epoch"], last["hooks"]["evaluate"]["best"]) == (4, 0.5)
    kept, newest = (predict.Trained(tmp_path, CPU, best).net.params for best in (True, False))
    assert all(torch.equal(newest[k], w) for k, w in run.net.params.items())
    assert not any(torch.equal(newest[k], w) for k, w in kept.items())


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
