"""Tests during a run, and which split they use."""

import json
import math

import pytest
import torch

from nets.common import tensorfile
from nets.common.errors import NonFiniteError
from nets.report import run_figures
from nets.tools import survive
from nets.training import config
from nets.training.hooks import Evaluate
from tests.training.ended_runs import ROOT, make, run_of

pytestmark = pytest.mark.usefixtures("no_pictures")
SPLIT = ["train.epochs=3", "data.validation=0.2"]


def test_a_score_that_is_not_finite_is_never_the_best(tmp_path):
    """Weights so large after the last step of all that the test's error overflows."""
    linear = '{ type = "Linear", out_features = 1, init_bound = 100.0 }'
    layers = f"net.layers=[{linear}, {linear}]"
    over = ["train.lr=1e24", "train.epochs=1", "train.batch_size=1", "train.loss=mse", "data.validation=0.5"]
    conf = config.load(ROOT / "configs/two_weight.toml", [*over, layers])
    run = run_of(conf, tmp_path)
    with pytest.raises(NonFiniteError, match="an output of the trained net for the test set is infinite"):
        run.train()
    assert not (tmp_path / "result.json").exists()
    assert not math.isfinite(run.evaluator.validation.score())
    assert tensorfile.read(tmp_path / "last.safetensors")[1]["hooks"]["evaluate"]["best"] is None


@pytest.mark.parametrize("tta, looks", [("none", 1), ("flip", 2)])
def test_with_a_validation_split_the_test_set_is_used_at_the_end_alone(tta, looks, tmp_path, monkeypatch):
    used, real = [], Evaluate.outputs

    def outputs(hook, run, x, *rest):
        used.append(("test" if x is run.data.test_x else "val", run.progress.epoch))
        return real(hook, run, x, *rest)

    monkeypatch.setattr(Evaluate, "outputs", outputs)
    run = run_of(make("", [*SPLIT, f"eval.tta={tta}"]), tmp_path)
    run.train()
    assert used == [("val", 0), ("val", 1), ("val", 2)] + [("test", 3)] * looks
    epochs = [row for row in run.history if "epoch" in row]
    assert all({"val_top1", "val_top5"} <= row.keys() and "top1" not in row for row in epochs)
    facts = json.loads((tmp_path / "result.json").read_text())
    best = max(epochs, key=lambda row: row["val_top1"])["epoch"]
    last = {"top1": epochs[-1]["val_top1"], "top5": epochs[-1]["val_top5"], "count": 287}
    assert facts["validation"] == last | {"best_epoch": best}
    assert facts["top1"] == run.top1 and facts["count"] == 360


def test_a_run_resumed_after_its_last_step_has_the_same_result(tmp_path):
    conf = make("", SPLIT)
    run_of(conf, tmp_path).train()
    before = survive.state(tmp_path)
    (tmp_path / "result.json").unlink()
    run_of(conf, tmp_path).train(resume=True)
    assert not survive.differences(before, survive.state(tmp_path))


def test_held_out_samples_are_not_trained_on():
    run = run_of(make("", SPLIT), None)
    assert run.feed.n == len(run.data.train_x) == 1437 - 287
    rows = lambda x: {bytes(image) for image in x.flatten(1).numpy()}  # noqa: E731
    assert torch.equal(run.feed.data.train_x, run.data.train_x)
    assert len(rows(run.data.train_x) & rows(run.data.val_x)) < 5  # the data set has equal images


def test_a_figure_that_cannot_be_drawn_costs_neither_the_result_nor_the_other(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise ZeroDivisionError("one pixel high")

    monkeypatch.setattr(run_figures, "pixels", fail)
    run_of(make("", ["train.epochs=1"]), tmp_path).train()
    assert json.loads((tmp_path / "result.json").read_text())["count"] == 360
    assert (tmp_path / "curves.png").exists() and not (tmp_path / "top5.png").exists()
    err = capsys.readouterr().err
    assert err.splitlines()[-1].startswith(
        f"note: {tmp_path}/top5.png can't be drawn: ZeroDivisionError: one"
    )
