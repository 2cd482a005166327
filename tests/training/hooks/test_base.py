"""Hooks: the order of events, and their state in checkpoints."""

import os
import signal

import pytest
import torch

from nets.common import tensorfile
from nets.common.errors import CheckpointError, NonFiniteError, Stopped, UsageError
from nets.training import config, log
from nets.training.hooks import EVENTS, Hook
from nets.training.run import Run

CPU = torch.device("cpu")


def conf(*overrides):
    own = ["train.epochs=2", "train.batch_size=512", "log.every_steps=1", "checkpoint.every_seconds=1e9"]
    return config.load("digits", [*own, *overrides])


def record(name):
    def method(self, run, *facts):
        self.calls.append((name, run.progress.epoch, run.progress.step))

    return method


class Recorder(Hook):
    """Records every event, with the epoch and the step."""

    def __init__(self):
        self.calls = []


for event in EVENTS:
    setattr(Recorder, event, record(event))


def test_events_come_in_order():
    hook = Recorder()
    Run.from_config(conf(), CPU, hooks=[hook]).train()
    epoch = lambda e: [  # noqa: E731
        ("before_epoch", e, 0), ("before_step", e, 0), ("after_step", e, 1), ("before_step", e, 1),
        ("after_step", e, 2), ("close_epoch", e, 2), ("after_epoch", e + 1, 0),
    ]  # fmt: skip
    ends = [("after_run", 2, 0), ("close", 2, 0), ("after_result", 2, 0)]
    assert hook.calls == [("before_run", 0, 0), *epoch(0), *epoch(1), *ends]


def test_close_is_called_however_a_run_ends():
    hook = Recorder()

    class Fail(Hook):
        def before_step(self, run):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        Run.from_config(conf(), CPU, hooks=[Fail(), hook]).train()
    assert [name for name, *_ in hook.calls] == ["before_run", "before_epoch", "close"]


class Count(Hook):
    """A hook with state: how many steps, as a number and as a tensor; and times and facts of its own."""

    name = "count"

    def __init__(self):
        self.steps, self.tensor = 0, torch.zeros(2)

    def after_step(self, run):
        self.steps += 1
        self.tensor += 1

    def close_epoch(self, run, facts):
        facts["counted"] = self.steps

    def times(self, run):
        return {"hooks": len(run.hooks)}

    def state(self):
        return {"steps": self.steps, "tensor": self.tensor}

    def load(self, state):
        super().load(state)
        self.steps = state["steps"]


class Interrupt(Hook):
    def __init__(self, at):
        self.at = at

    def before_step(self, run):
        if run.at() == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_hooks_state_is_saved_and_restored_under_its_name(tmp_path):
    with pytest.raises(Stopped):
        Run.from_config(conf(), CPU, tmp_path, hooks=[Count(), Interrupt(2)]).train()
    tensors, words = tensorfile.read(tmp_path / "last.safetensors")
    assert tensors["count.tensor"].tolist() == [3, 3] and words["hooks"]["count"] == {"steps": 3}
    hook = Count()
    Run.from_config(conf(), CPU, tmp_path, hooks=[hook]).train(resume=True)
    assert hook.steps == 4 and hook.tensor.tolist() == [4, 4]
    rows = log.read_entries(tmp_path)
    assert [row["counted"] for row in rows if "epoch" in row] == [2, 4] and all(row["hooks"] for row in rows)


def test_a_hook_without_its_state_in_the_checkpoint_is_a_checkpoint_error(tmp_path):
    with pytest.raises(Stopped):
        Run.from_config(conf(), CPU, tmp_path, hooks=[Interrupt(2)]).train()
    with pytest.raises(CheckpointError, match="count"):
        Run.from_config(conf(), CPU, tmp_path, hooks=[Count()]).train(resume=True)


def test_a_run_in_memory_that_is_not_finite_names_the_step():
    class Poison(Hook):
        def before_step(self, run):
            if run.at() == 3:
                next(iter(run.net.params.values())).fill_(torch.nan)

    with pytest.raises(NonFiniteError, match=r"at step 2 of epoch 2; a lower train.lr may help \(now 0.1\)$"):
        Run.from_config(conf(), CPU, hooks=[Poison()]).train()


@pytest.mark.parametrize("name", ["", "guard", "net", "count"])
def test_a_hook_with_state_needs_a_name_of_its_own(name, tmp_path):
    """Its state would replace that of another in the checkpoint."""

    class Other(Count):
        pass

    Other.name = name
    with pytest.raises(
        UsageError, match=f'^hook Other: has state, so it needs a `name` of its own, not "{name}"$'
    ):
        Run.from_config(conf(), CPU, tmp_path, hooks=[Count(), Other()]).train()
