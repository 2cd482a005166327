"""Whole runs of recipes: images of several sizes, skipped samples, frozen parameters, several views."""

import dataclasses
import json

import pytest
import torch

from nets.common.errors import UsageError
from nets.tools import survive
from nets.training import config
from nets.training.config import Eval
from nets.training.hooks import Hook
from nets.training.predict import Trained
from nets.training.run import Run
from tests.data.trees import make_tree
from tests.training.ended_runs import make, run_of

pytestmark = pytest.mark.usefixtures("no_pictures")
CPU = torch.device("cpu")

LAYERS = (
    {"type": "Conv2d", "out_channels": 16, "kernel_size": 3, "padding": 1},
    {"type": "MaxPool2d", "kernel_size": 2},
    "BatchNorm2d", "ReLU", "GlobalMaxPool", {"type": "Linear", "out_features": 10},
)  # fmt: skip


def recipe(**train):
    conf = config.load("configs/digits.toml")
    settings = dict(epochs=2, batch_size=256, progressive_sizes=(6, 8), skip_fraction=0.5)
    settings |= dict(param_groups=(), schedule="linear", **train)
    return dataclasses.replace(
        conf,
        net=dataclasses.replace(conf.net, layers=LAYERS, backend="native"),
        train=dataclasses.replace(conf.train, **settings),
        eval=Eval("six_view", 0.5),
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_a_recipe_runs_and_reports_with_and_without_tta(tmp_path, dtype):
    run, seen = Run.from_config(recipe(dtype=dtype), CPU, tmp_path), []
    step = run.learner.step
    run.learner.step = lambda x, *rest: seen.append((x.shape[-1], len(x))) or step(x, *rest)
    run.train()
    n = len(run.data.train_y)
    assert [s for s, _ in seen] == [6] * (n // 256) + [8] * ((n - n // 4) // 256)
    facts = json.loads((tmp_path / "result.json").read_text())
    assert facts["one_view"].keys() == {"top1", "top5"} and facts["eval_seconds"] > 0


def test_a_group_stops_training_at_its_until_epoch(tmp_path):
    groups = ({"match": ["0.*"], "until_epoch": 1.0}, {"match": ["2.weight"], "until_epoch": 0.0})
    conf = recipe()
    conf = dataclasses.replace(conf, train=dataclasses.replace(conf.train, param_groups=groups))
    marks = []

    class Marks(Hook):
        def before_step(self, run):
            marks.append({k: v.clone() for k, v in run.net.params.items()})

    run = Run.from_config(conf, CPU, tmp_path, hooks=[Marks()])
    run.train()
    first = run.per_epoch[0]
    assert not torch.equal(marks[0]["0.weight"], marks[first - 1]["0.weight"])
    assert torch.equal(marks[first]["0.weight"], run.net.params["0.weight"])
    assert (run.net.params["2.weight"] == 1).all()
    assert not torch.equal(marks[first]["2.bias"], run.net.params["2.bias"])


def test_a_run_without_a_folder_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run.from_config(config.load("digits", ["train.epochs=1", "train.batch_size=256"]), CPU)
    result = run.train()
    assert not list(tmp_path.iterdir()) and run.out is None
    assert run.metrics == result.scores() and run.top1 == result.top1 and run.top5 == result.topk
    assert [row["epoch"] for row in run.history if "epoch" in row] == [1]


def test_without_figures_a_run_has_all_other_files(tmp_path):
    conf = config.load("digits", ["train.epochs=1", "train.batch_size=256"])
    Run.from_config(conf, CPU, tmp_path).train()
    files = {"config.toml", "lock", "metrics.jsonl", "times.jsonl", "result.json"}
    files |= {"last.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == files


def test_an_earlier_run_is_not_overwritten_without_force(stopped_run, tmp_path):
    with pytest.raises(
        UsageError, match="a run that isn't finished; --resume resumes it, --force overwrites it"
    ):
        run_of(make(""), stopped_run).train()
    out = tmp_path / "run"
    run_of(make("", ["train.epochs=1"]), out).train()
    before = (out / "last.safetensors").read_bytes()
    with pytest.raises(UsageError, match="has a finished run"):
        run_of(make("", ["train.epochs=1"]), out).train()
    assert (out / "last.safetensors").read_bytes() == before
    run_of(make("", ["train.epochs=1", "seed=5"]), out).train(force=True)
    assert (out / "last.safetensors").read_bytes() != before


@pytest.mark.parametrize("resume", [False, True])
def test_a_result_without_its_checkpoint_is_not_said_to_be_resumable(resume, tmp_path):
    (tmp_path / "result.json").write_text("{}")
    words = f"{tmp_path}: has a finished run; it has no last.safetensors to resume from, --force overwrites"
    with pytest.raises(UsageError, match=words):
        run_of(make(""), tmp_path).train(resume=resume)


def test_a_run_finds_its_images_from_another_current_folder(tmp_path, monkeypatch):
    make_tree(tmp_path / "tree")
    monkeypatch.chdir(tmp_path)
    layers = ["Flatten", {"type": "Linear", "out_features": 3}]
    conf = config.Config(
        name="run", data=config.Data(source="folder", root="tree"), net=config.NetConfig(tuple(layers)),
        train=config.Train(epochs=1),
    )  # fmt: skip
    result = Run.from_config(conf, CPU, tmp_path / "run").train()
    monkeypatch.chdir("/")
    assert Trained(tmp_path / "run", CPU).test() == result
    assert config.load(tmp_path / "run/config.toml").data.root == str(tmp_path / "tree")


def test_resuming_a_finished_run_returns_its_result(tmp_path):
    conf = make("", ["train.epochs=1"])
    first = run_of(conf, tmp_path).train()
    before = survive.state(tmp_path)
    assert run_of(conf, tmp_path).train(resume=True) == first
    assert not survive.differences(before, survive.state(tmp_path))


def test_resume_and_force_exclude_each_other(tmp_path):
    with pytest.raises(UsageError, match="^--resume and --force exclude each other$"):
        run_of(make("", ["train.epochs=1"]), tmp_path / "run").train(resume=True, force=True)
    assert not (tmp_path / "run").exists()
