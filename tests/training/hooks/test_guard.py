"""Runs with steps that are not finite."""

import json

import pytest
import torch

from nets.common import tensorfile
from nets.common.errors import NonFiniteError, Stopped
from tests.training.ended_runs import ended, make, run_of, stop

pytestmark = pytest.mark.usefixtures("no_pictures")


def poisoned(conf, out, at):
    """A run whose batches at the steps `at` are NaN."""
    run = run_of(conf, out)
    feed = run.feed

    class Feed(type(feed)):
        def __call__(self, epoch, start=0):
            for i, (which, x, target) in enumerate(super().__call__(epoch, start), start):
                yield which, torch.full_like(x, torch.nan) if epoch * 5 + i in at else x, target

    feed.__class__ = Feed
    return run


def test_a_run_stops_before_a_batch_that_is_not_finite(tmp_path):
    conf = make("", ["checkpoint.every_seconds=1e9"])
    run = poisoned(conf, tmp_path / "bad", [7])
    with pytest.raises(NonFiniteError, match="the loss became nan at step 3 of epoch 2"):
        run.train()
    with pytest.raises(Stopped):
        ended(conf, tmp_path / "good", 6, stop).train()  # which stops after that step: 7 are done
    bad, good = (tensorfile.read(tmp_path / name / "last.safetensors") for name in ("bad", "good"))
    for name, t in good[0].items():
        if name not in ("random.cpu", "guard.loss"):  # the step that didn't count has drawn its dropout
            assert torch.equal(t, bad[0][name]), name
    found = json.loads((tmp_path / "bad/nonfinite.json").read_text())
    plan = run.feed.plan(1)
    assert found == {"epoch": 2, "step": 3, "samples": plan.order[512:768].tolist()}
    # the batch being mended, the run goes on
    run_of(conf, tmp_path / "bad").train(resume=True)


def test_steps_that_are_not_finite_are_skipped_up_to_a_limit(tmp_path):
    own = ["train.on_nonfinite=skip", "train.max_nonfinite_steps=2"]
    run = poisoned(make("", own), tmp_path / "a", [4, 7])
    run.train()
    assert json.loads((tmp_path / "a/result.json").read_text())["skipped_steps"] == 2
    assert all(t.isfinite().all() for t in run.net.params.values())
    rows = [json.loads(s) for s in (tmp_path / "a/metrics.jsonl").read_text().splitlines()]
    assert all(row["loss"] is not None and row["loss"] == row["loss"] for row in rows)
    with pytest.raises(NonFiniteError, match="3 steps weren't finite, train.max_nonfinite_steps is 2"):
        poisoned(make("", own), tmp_path / "b", [4, 7, 8]).train()
