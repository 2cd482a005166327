"""One form in one process."""

import os
from pathlib import Path

import pytest

from nets.bench import forms, worker
from nets.common.errors import Problem
from tests.bench.common import task


def test_dropout_is_off_only_for_the_compared_losses():
    runner = worker.Runner(task("digits", "train.batch_size=4"), forms.Form("autograd"))
    runner.losses(1)
    assert runner.trainer.module[12].p == 0.25


def test_a_worker_that_fails_or_dies_is_a_problem():
    one = worker.Worker(int, "x", name="one")
    two = worker.Worker(os._exit, 3, name="two")
    with pytest.raises(Problem, match="one: ValueError: invalid literal"):
        one.call("bit_length")
    with pytest.raises(Problem, match="two: its process died"):
        two.call("anything")
    one.close()
    two.close()
    assert not Path(one.folder.name).exists() and not one.process.is_alive()
