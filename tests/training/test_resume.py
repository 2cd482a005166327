"""A stopped or killed run resumes bit-identically."""

import dataclasses
import json
import os
import signal

import pytest
import torch

from nets.common import tensorfile
from nets.common.errors import Stopped
from nets.tools import survive
from nets.training import config
from nets.training.hooks import Evaluate
from tests.training.ended_runs import RUNS, Gone, ended, gone, make, run_of, stop

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.mark.parametrize("name", RUNS)
def test_a_stopped_and_killed_run_resumes_bit_identically(name, tmp_path):
    conf = make(name)
    run_of(conf, tmp_path / "alone").train()
    whole = survive.state(tmp_path / "alone")
    assert len(whole["metrics.jsonl"].splitlines()) >= 8
    steps = json.loads(whole["metrics.jsonl"].splitlines()[-1])["step"]
    with pytest.raises(Stopped) as caught:
        ended(conf, tmp_path / "again", steps // 3, stop).train()
    assert caught.value.code == 143 and f"at step {steps // 3 + 1} of {steps}" in str(caught.value)
    # again, this time without saving, two steps after a checkpoint
    later = dataclasses.replace(conf, checkpoint=config.Checkpoint(every_steps=3, every_seconds=1e9))
    with pytest.raises(Gone):
        ended(later, tmp_path / "again", steps // 2 // 3 * 3 + 2, gone).train(resume=True)
    run_of(conf, tmp_path / "again").train(resume=True)
    assert not survive.differences(whole, survive.state(tmp_path / "again"))


@pytest.mark.parametrize(
    "lost", ["random.cpu", "optimizer.velocity.13.weight", "net.1.running_mean", "log.steps"]
)
def test_every_saved_tensor_is_needed(lost, tmp_path, monkeypatch):
    """With one tensor set back to its initial value, the resumed run differs."""
    conf = make("")
    run_of(conf, tmp_path / "alone").train()
    with pytest.raises(Stopped):
        ended(conf, tmp_path / "again", 6, stop).train()
    tensors, words = tensorfile.read(tmp_path / "again/last.safetensors")
    tensors[lost] = (
        torch.Generator().get_state()[None] if lost == "random.cpu" else torch.zeros_like(tensors[lost])
    )
    tensorfile.save(tmp_path / "again/last.safetensors", tensors, words)
    run_of(conf, tmp_path / "again").train(resume=True)
    assert survive.differences(*(survive.state(tmp_path / name) for name in ("alone", "again")))


def test_a_run_stopped_in_a_test_resumes_bit_identically(tmp_path, monkeypatch):
    conf = make("", ["train.epochs=2"])
    run_of(conf, tmp_path / "alone").train()
    run, test = run_of(conf, tmp_path / "again"), Evaluate.test

    def stopped(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return test(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluate, "test", stopped)
        with pytest.raises(Stopped, match="interrupted at step 5 of 10"):
            run.train()
    assert run.net.training
    run_of(conf, tmp_path / "again").train(resume=True)
    assert not survive.differences(*(survive.state(tmp_path / name) for name in ("alone", "again")))
