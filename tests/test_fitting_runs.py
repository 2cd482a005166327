"""The folder of a run of fit: what is written and resumed, and that it equals a config's run."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from nets.common import tensorfile
from nets.common.errors import CheckpointError, DataError, Stopped, UsageError
from nets.data import datasets
from nets.fitting import fit
from nets.layers import (
    Dropout,
    Flatten,
    Linear,
    ReLU,
    Sequential,
)
from nets.losses import CrossEntropyLoss
from nets.optim import SGD, Adaptive
from nets.report import run_figures
from nets.tools import survive
from nets.training import config, log, make
from nets.training.run import Run
from tests.shell import shell
from tests.small_problem import Interrupt, problem, sgd, small_net, state

pytestmark = pytest.mark.usefixtures("no_pictures")

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]


def digits_config(*overrides):
    own = ["train.epochs=2", "train.batch_size=256", "log.every_steps=2", "checkpoint.every_seconds=0"]
    return config.load(ROOT / "configs/digits.toml", [*own, *overrides])


def fit_digits(conf, out, hooks=(), **options):
    """What `nets train` does for the config, by way of fit."""
    data, t = datasets.load(conf.data), conf.train
    net = make.make_net(conf, data.shape, 10)
    loss = CrossEntropyLoss(t.label_smoothing)
    optimizer = SGD(net.params, t.lr, t.momentum, t.nesterov, t.weight_decay)
    return fit(
        net, loss, optimizer, (data.train_x, data.train_y), (data.test_x, data.test_y), epochs=t.epochs,
        batch_size=t.batch_size, schedule=t.schedule, warmup_epochs=t.warmup_epochs, augment=conf.augment,
        backend=conf.net.backend, log_every_steps=2, checkpoint_every_seconds=0, seed=conf.seed, out=out,
        hooks=hooks, **options,
    )  # fmt: skip


@pytest.mark.parametrize("overrides", [[], ["net.backend=native", "augment.flip=random", "seed=3"]])
def test_fit_is_bit_identical_to_a_configs_run(overrides, tmp_path):
    conf = digits_config(*overrides)
    theirs = Run.from_config(conf, CPU, tmp_path / "config")
    result = theirs.train()
    run = fit_digits(conf, tmp_path / "fit")
    a, b = (tensorfile.read(tmp_path / name / "last.safetensors")[0] for name in ("config", "fit"))
    assert a.keys() == b.keys() and all(torch.equal(t, b[name]) for name, t in a.items())
    logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("config", "fit")]
    assert logs[0] == logs[1] and run.top1 == result.top1 and run.top5 == result.topk


def test_a_stopped_fit_resumes_bit_identically(tmp_path):
    conf = digits_config()
    fit_digits(conf, tmp_path / "alone")
    with pytest.raises(Stopped, match="terminated at step 8 of 10; resume with resume=True"):
        fit_digits(conf, tmp_path / "again", [Interrupt(7)])
    run = fit_digits(conf, tmp_path / "again", resume=True)
    assert not survive.differences(*(state(tmp_path / name) for name in ("alone", "again")))
    assert run.history == log.read_entries(tmp_path / "again") and run.out == tmp_path / "again"
    with pytest.raises(
        ValueError, match="has a finished run; resume=True resumes it, force=True overwrites it"
    ):
        fit_digits(conf, tmp_path / "again")
    fit_digits(conf, tmp_path / "again", force=True)


def test_what_is_written(tmp_path):
    net = small_net()
    fit(net, CrossEntropyLoss(), sgd(net), problem(), problem(60), epochs=1, out=tmp_path / "a/run")
    files = {p.name for p in (tmp_path / "a/run").iterdir()}
    assert files == {
        "settings.toml", "metrics.jsonl", "times.jsonl", "result.json", "curves.png", "lock",
        "last.safetensors",
    }  # fmt: skip
    text = (tmp_path / "a/run/settings.toml").read_text()
    assert 'layers = ["Linear", "ReLU", "Dropout", "Linear"]' in text and 'name = "run"' in text
    assert "lr = 0.1" in text and "momentum = 0.9" in text and 'optimizer = "sgd"' in text


def test_a_tilde_in_out_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    net = small_net()
    run = fit(net, CrossEntropyLoss(), sgd(net), problem(), epochs=1, out="~/runs/mine")
    assert run.out == tmp_path / "runs/mine" and (run.out / "result.json").exists()


class Bare:
    """An optimizer of one's own without `lr`: it leaves the weights as they are."""

    layerwise = False

    def __init__(self, params):
        self.params = params

    def state(self):
        return {}

    def step(self, grads, lr_factor=1.0, loss=None):
        pass


@pytest.mark.parametrize(
    "make, lr",
    [
        (lambda params: SGD(params, lr=0.25), 0.25),
        (lambda params: Adaptive(params, lr=0.25), 0.25),
        (lambda params: Adaptive(params, lr=torch.tensor(0.25)), 1.0),
        (Bare, 1.0),
    ],
)
def test_the_log_has_the_optimizers_rate_or_the_schedules_factor(make, lr):
    net = small_net()
    run = fit(
        net, CrossEntropyLoss(), make(net.params), problem(30), epochs=1, batch_size=30, log_every_steps=1
    )
    assert [row["lr"] for row in run.history if "lr" in row] == [lr] and run.config.train.lr == lr


def test_a_run_of_fit_is_watched(tmp_path):
    net = small_net()
    fit(net, CrossEntropyLoss(), sgd(net), problem(), problem(60), epochs=2, out=tmp_path / "run")
    text = shell("watch", tmp_path / "run", "--once")
    assert "run:" in text and "2 of 2 epochs" in text and "top-1" in text
    fit(net, CrossEntropyLoss(), sgd(net), problem(), epochs=1, out=tmp_path / "alone")
    assert "without a test set: 131 parameters" in shell("watch", tmp_path / "alone", "--once")
    (tmp_path / "run/settings.toml").write_text("name = 3")
    assert str(tmp_path) in shell("watch", tmp_path / "run", "--once", code=4)


def test_figures_of_float_images_and_of_runs_without_a_test_set(tmp_path, monkeypatch):
    monkeypatch.undo()
    x, y = torch.rand(30, 3, 6, 6), torch.arange(30) % 3
    net = Sequential(Flatten(), Linear(108, 3))
    fit(net, CrossEntropyLoss(), SGD(net.params, 0.1), (x, y), (x, y), epochs=1, out=tmp_path / "images")
    fit(net, CrossEntropyLoss(), SGD(net.params, 0.1), (x, y), epochs=1, out=tmp_path / "alone")
    assert Image.open(tmp_path / "images/top5.png").size[0] > 100
    assert all(Image.open(tmp_path / name / "curves.png").size[0] > 100 for name in ("images", "alone"))
    pixels = run_figures.pixels(datasets.Dataset(x, y, x, y), [3, 4])
    assert pixels.shape == (2, 6, 6, 3) and pixels.min() == 0 and pixels.max() == 255


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"lr": 0.2}, UsageError, r"train\.lr: .* was trained with 0\.1, now it is 0\.2"),
        ({"momentum": 0.8}, UsageError, r"train\.momentum"),
        ({"net": Sequential(Linear(4, 3))}, UsageError, r"net\.layers"),
        (
            {"net": Sequential(Linear(4, 8), ReLU(), Dropout(0.2), Linear(8, 3))},
            CheckpointError,
            r"0\.weight",
        ),
        ({"n": 219}, DataError, "not the data"),
        ({"epochs": 4}, UsageError, r"train\.epochs"),
    ],
)
def test_resuming_something_else_is_refused(change, error, words, tmp_path):
    def run(resume, net=None, lr=0.1, momentum=0.9, n=220, epochs=2, hooks=()):
        net = net or small_net()
        optimizer = SGD(net.params, lr, momentum)
        options = {"epochs": epochs, "out": tmp_path, "resume": resume, "hooks": hooks}
        fit(net, CrossEntropyLoss(), optimizer, problem(n), **options)

    with pytest.raises(Stopped):
        run(False, hooks=[Interrupt(1)])
    with pytest.raises(error, match=words):
        run(True, **change)
