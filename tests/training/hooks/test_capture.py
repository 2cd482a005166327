"""Every step of a run is captured before the first."""

import dataclasses

import pytest
import torch

from nets.training.cuda_graph import Captured
from nets.training.hooks import Capture
from nets.training.run import Run
from tests.training.test_run import CPU, recipe


@pytest.mark.parametrize("skip", [0.5, 0.0])
def test_every_step_of_a_run_is_captured_before_the_first(skip, cuda, tmp_path, monkeypatch):
    """Two sizes of picture, and a parameter that becomes constant in the middle of an epoch."""
    conf = recipe()
    groups = ({"match": ["0.*"], "until_epoch": 0.6}, {"match": ["2.weight"], "until_epoch": 1.0})
    conf = dataclasses.replace(
        conf, train=dataclasses.replace(conf.train, param_groups=groups, skip_fraction=skip)
    )
    plain = Run.from_config(conf, CPU, tmp_path / "plain")
    plain.train()

    run = Run.from_config(conf, CPU, tmp_path / "captured")
    run.feed.make = Captured(cuda.of(run.feed._make), list, lambda: run.feed.side)
    run.learner.capture()
    run.learner.captured.step = cuda.of(run.learner.learn)
    capture, ready = Capture.before_run, []

    def captured(*args):
        capture(*args)
        ready.append((cuda.captures, cuda.replays))

    monkeypatch.setattr(Capture, "before_run", captured)
    run.train()
    # batches of two sizes; steps of these, and of the first with the parameter that is constant later
    assert ready == [(5, 2)] and cuda.captures == 5  # with a batch of each size made
    assert cuda.replays == 2 + 2 * run.steps
    assert all(torch.equal(p, plain.net.params[name]) for name, p in run.net.params.items())
    same = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("plain", "captured")]
    assert same[0] == same[1]
