"""Runs with steps that are not finite."""

import json
from pathlib import Path

import pytest
import torch

from nets.common import tensorfile
from nets.common.errors import NonFiniteError, Stopped
from nets.fitting import fit
from nets.layers.containers import Sequential
from nets.layers.linear import Linear
from nets.losses import CrossEntropyLoss
from nets.optim.sgd import SGD
from nets.training import config
from tests.training.ended_runs import ended, make, run_of, stop

ROOT = Path(__file__).parents[3]
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


MUON = ["train.optimizer=muon", "train.epochs=1"]
CONV = "{ type = 'Conv2d', out_channels = 3, kernel_size = 3, init_std = 0.0, init_bias = 0.0 }"
LAYERS = f"net.layers=[{CONV}, 'Flatten', {{ type = 'Linear', out_features = 10 }}]"


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_muon_trains_filters_that_start_at_zero(tmp_path, policy):
    run = run_of(make("", [*MUON, LAYERS, f"train.on_nonfinite={policy}"]), tmp_path)
    run.train()
    assert all(w.isfinite().all() for w in run.net.params.values())


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_after_an_update_that_is_not_finite_the_checkpoint_has_the_net_before_it(tmp_path, policy):
    run = run_of(make("", [f"train.on_nonfinite={policy}", "train.max_nonfinite_steps=0"]), tmp_path)
    before = {name: w.clone() for name, w in run.net.params.items()}
    run.optimizer.updates = lambda grads, lr_factor: ([(w, w / 0) for w in run.net.params.values()], [])
    wanted = {"stop": "an updated weight became infinite or NaN", "skip": "1 steps weren't finite"}[policy]
    with pytest.raises(
        NonFiniteError, match=f"{wanted}.* at step 1 of epoch 1; no earlier step changed the net"
    ):
        run.train()
    tensors = tensorfile.read(tmp_path / "last.safetensors")[0]
    assert all(torch.equal(tensors[f"net.{name}"], w) for name, w in before.items())


def test_the_rate_is_not_blamed_before_a_step_has_changed_the_net(tmp_path):
    with pytest.raises(NonFiniteError, match="step 1 of epoch 1; no earlier step changed the net"):
        poisoned(make("", []), tmp_path, [0]).train()


def test_a_sample_that_is_not_finite_is_named():
    x, y = torch.randn(20, 4), torch.arange(20) % 3
    x[7, 2] = torch.nan
    net = Sequential(Linear(4, 3))
    with pytest.raises(NonFiniteError, match="; x of training sample 7 is infinite or NaN$"):
        fit(net, CrossEntropyLoss(), SGD(net.params, 0.1), (x, y), batch_size=5, epochs=1, bar=False)


def test_the_rate_is_blamed_for_a_first_step_that_overflows(tmp_path):
    layers = 'net.layers=[{ type = "Linear", out_features = 1, init_bound = 100.0 }]'
    own = [layers, "train.lr=9e37", "train.batch_size=2", "train.loss=mse"]
    conf = config.load(ROOT / "configs/two_weight.toml", own)
    with pytest.raises(NonFiniteError, match=r"\(loss .*\) at step 1 of epoch 1; a lower train.lr may help"):
        run_of(conf, tmp_path).train()
