"""fit: any net on tensors, Datasets, DataLoaders and image trees; resumed, and equal to a config's run."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from nets.common import tensorfile
from nets.common.errors import CheckpointError, DataError, NonFiniteError, Stopped, UsageError
from nets.data import datasets
from nets.fitting import KEYS, fit
from nets.layers import (
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Linear,
    ReLU,
    Sequential,
    Whiten2d,
)
from nets.layers.base import Layer
from nets.losses import CrossEntropyLoss, MSELoss, Performance
from nets.optim import SGD, Adaptive, Muon
from nets.report import run_figures
from nets.tools import survive
from nets.training import config, log, make
from nets.training.hooks import Hook
from nets.training.run import Run
from tests.shell import shell
from tests.small_problem import Interrupt, Squares, problem, sgd, small_net, state

pytestmark = pytest.mark.usefixtures("no_pictures")

CPU = torch.device("cpu")

ROOT = Path(__file__).parents[1]


def test_tensors_in_memory():
    (x, y), (x2, y2), net = problem(), problem(90), small_net()
    run = fit(net, CrossEntropyLoss(), sgd(net), (x, y), (x2, y2), epochs=6, batch_size=32)
    assert run.net is net and run.top1 > 0.8 and run.top5 is None and run.out is None
    assert run.metrics.keys() == {"top1"} and run.metrics["top1"] == run.top1
    assert not net.training and (net(x2).argmax(1) == y2).double().mean() == pytest.approx(run.top1)
    epochs = [row for row in run.history if "epoch" in row]
    assert [row["epoch"] for row in epochs] == [1, 2, 3, 4, 5, 6] and epochs[-1]["top1"] == run.top1
    assert epochs[-1]["loss"] < epochs[0]["loss"] and run.history[-1]["step"] == 36
    assert {"seconds", "per_second", "memory", "train_top1"} <= epochs[-1].keys()


def test_numpy_arrays_and_other_whole_numbers():
    x, y = problem()
    params = []
    for train in ((x, y), (x.numpy(), y.numpy().astype(np.uint8))):
        net = small_net()
        fit(net, CrossEntropyLoss(), sgd(net), train, epochs=1)
        params.append(net.params)
    assert all(torch.equal(w, params[1][name]) for name, w in params[0].items())


def test_without_a_test_set(tmp_path):
    net = small_net()
    run = fit(net, CrossEntropyLoss(), sgd(net), problem(), epochs=2, out=tmp_path / "run")
    assert run.top1 is None and run.top5 is None and run.metrics == {}
    facts = json.loads((tmp_path / "run/result.json").read_text())
    assert facts["parameters"] == 131 and "top1" not in facts
    assert [row["epoch"] for row in run.history if "epoch" in row] == [1, 2]


def test_float_outputs_of_any_shape():
    """An autoencoder of (N, 2, 3, 3); its metrics are those of outputs."""
    torch.manual_seed(0)
    x = torch.randn(40, 2, 3, 3)
    net = Sequential(Conv2d(2, 4, 3, padding=1), Conv2d(4, 2, 3, padding=1))
    run = fit(net, MSELoss(), SGD(net.params, 0.3), (x, x), (x, x), epochs=20, batch_size=20)
    assert run.metrics.keys() == {"largest_error", "within"} and run.top1 is None
    assert run.metrics["largest_error"] == pytest.approx((net(x) - x).abs().max().item(), abs=1e-6)
    assert run.history[-1]["loss"] < run.history[0]["loss"] and run.history[-1]["train_top1"] <= 1


def test_a_performance_is_maximized_and_adaptive_needs_all_samples_in_a_batch():
    torch.manual_seed(0)
    x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    y = 2 * x[:, :1] - 3 * x[:, 1:] + 1
    net = Sequential(Linear(2, 1))
    optimizer = Adaptive(net.params, 0.5, maximize=True)
    run = fit(net, Performance(), optimizer, (x, y), (x, y), epochs=60, batch_size=4)
    assert run.metrics["within"] == 4
    with pytest.raises(UsageError, match="maximize=True"):
        fit(net, Performance(), SGD(net.params, 0.1), (x, y))
    with pytest.raises(UsageError, match="the adaptive optimizer needs all 4 samples in every step"):
        fit(net, Performance(), Adaptive(net.params, 0.5, maximize=True), (x, y), batch_size=2)


class Scale(Layer):
    """A layer of one's own: y = w·x."""

    def __init__(self, n):
        super().__init__()
        self.params = {"weight": torch.ones(n)}

    def forward(self, x):
        return x * self.params["weight"], x

    def backward(self, saved, dy):
        return dy * self.params["weight"], {"weight": (dy * saved).sum(0)}


@pytest.mark.parametrize("alone", [True, False])
def test_a_layer_of_ones_own_trains(alone, tmp_path):
    x = torch.randn(64, 3)
    net = Scale(3) if alone else Sequential(Scale(3), Scale(3))
    wanted = x * torch.tensor([2.0, 0.5, 3.0])
    run = fit(net, MSELoss(), SGD(net.params, 0.2), (x, wanted), (x, wanted), epochs=60, out=tmp_path)
    assert run.metrics["within"] == 64
    torch.testing.assert_close(net(x), wanted, atol=0.05, rtol=0)


def test_uint8_images_are_normalized_and_augmented():
    data = datasets.load(config.Data(source="digits"))
    torch.manual_seed(0)
    net = Sequential(Conv2d(1, 8, 3), BatchNorm2d(8), ReLU(), Flatten(), Linear(8 * 36, 10))
    seen = []

    class Watch(Hook):
        def before_run(self, run):
            learn = run.learner.step
            run.learner.step = lambda x, *rest: seen.append(x) or learn(x, *rest)

    train, test = (data.train_x, data.train_y), (data.test_x, data.test_y)
    options = {"augment": {"flip": "random", "crop_padding": 1}, "tta": "flip", "classes": "abcdefghij"}
    optimizer = SGD(net.params, 0.1, 0.9)
    run = fit(net, CrossEntropyLoss(), optimizer, train, test, epochs=2, hooks=[Watch()], **options)
    assert run.top1 > 0.7 and run.top5 > run.top1 and run.data.classes == tuple("abcdefghij")
    x = torch.cat(seen[:11])
    assert x.shape[1:] == (1, 8, 8) and abs(x.mean()) < 0.05 and abs(x.std() - 1) < 0.1
    gray = fit(net, CrossEntropyLoss(), SGD(net.params, 0.01), (data.train_x[..., 0], data.train_y), epochs=1)
    assert gray.data.shape == (1, 8, 8)


def test_a_first_layer_is_fitted_to_the_data():
    x, y = torch.randn(50, 2, 6, 6) * 3, torch.arange(50) % 2
    whiten = Whiten2d(2, 2)
    net = Sequential(whiten, Flatten(), Linear(16 * 25, 2))
    expected = Whiten2d(2, 2)
    expected.fit(x)
    fit(net, CrossEntropyLoss(), SGD(net.params, 1e-9), (x, y), epochs=1)
    assert torch.equal(whiten.buffers["weight"], expected.buffers["weight"])
    inside = Sequential(ReLU(), Whiten2d(2, 2), Flatten(), Linear(16 * 25, 2))
    with pytest.raises(ValueError, match="Whiten2d can only be the first layer"):
        fit(inside, CrossEntropyLoss(), SGD(inside.params, 0.1), (x, y))


@pytest.fixture
def tree(tmp_path):
    """Two classes of gray pictures: (root, the images in order, their classes)."""
    random = np.random.default_rng(0)
    for split, n in (("train", 20), ("test", 4)):
        for i, label in enumerate(("dark", "light")):
            (tmp_path / split / label).mkdir(parents=True)
            for j in range(n):
                pixels = random.integers(100 * i, 100 * i + 120, (6, 6), np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / label / f"{j:02}.png")
    return tmp_path


def test_an_image_tree(tree):
    torch.manual_seed(0)
    net = Sequential(Flatten(), Linear(36, 2))
    run = fit(net, CrossEntropyLoss(), SGD(net.params, 0.1), tree, epochs=4, batch_size=10, channels=1)
    assert run.top1 == 1 and run.data.classes == ("dark", "light") and run.data.shape == (1, 6, 6)
    streamed = Sequential(Flatten(), Linear(36, 2))
    streamed.load_state_dict({"1.weight": torch.zeros(2, 36), "1.bias": torch.zeros(2)})
    run = fit(
        streamed, CrossEntropyLoss(), SGD(streamed.params, 0.1), str(tree), epochs=2, batch_size=10,
        channels=1, memory_limit_mb=0, num_workers=0,
    )  # fmt: skip
    assert run.top1 == 1 and "wait" in run.history[-1]
    with pytest.raises(ValueError, match="has its own test images"):
        fit(net, CrossEntropyLoss(), SGD(net.params, 0.1), tree, problem())


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
    run = fit(net, CrossEntropyLoss(), make(net.params), (X, Y), epochs=1, batch_size=30, log_every_steps=1)
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


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    x, y = problem()
    x[3, 1] = torch.nan
    net = small_net()
    with pytest.raises(NonFiniteError, match="the loss became nan at step .* of epoch 1"):
        fit(net, CrossEntropyLoss(), sgd(net), (x, y), batch_size=44)
    with pytest.raises(NonFiniteError, match="nonfinite.json"):
        fit(net, CrossEntropyLoss(), sgd(net), (x, y), batch_size=44, out=tmp_path)
    assert 3 in json.loads((tmp_path / "nonfinite.json").read_text())["samples"]
    run = fit(net, CrossEntropyLoss(), sgd(net), (x, y), on_nonfinite="skip", epochs=1, batch_size=44)
    assert all(w.isfinite().all() for w in run.net.params.values())


def test_every_optimizer_trains_with_its_groups():
    x, y = torch.randn(40, 2, 5, 5), torch.arange(40) % 2
    torch.manual_seed(0)
    net = Sequential(Conv2d(2, 4, 3), Flatten(), Linear(36, 2))
    groups = [{"match": ["0.bias"], "until_epoch": 0.0}]
    before = {name: w.clone() for name, w in net.params.items()}
    fit(
        net,
        CrossEntropyLoss(),
        Muon(net.params, 0.02, 0.9, param_groups=groups),
        (x, y),
        epochs=1,
        batch_size=10,
    )
    assert [name for name, w in net.params.items() if torch.equal(w, before[name])] == ["0.bias"]


def test_the_nets_dtype_changes_in_place():
    """The optimizer keeps the tensors that it shares with the net."""
    net = small_net()
    weight, optimizer = net.params["0.weight"], sgd(net)
    fit(net, CrossEntropyLoss(), optimizer, problem(), dtype="float64", epochs=1)
    assert net.params["0.weight"] is weight is optimizer.params["0.weight"] and weight.dtype == torch.float64
    assert optimizer.velocity["0.weight"].dtype == torch.float64


X, Y = problem(30)


@pytest.mark.parametrize(
    "train, test, options, words",
    [
        ((X, Y), None, {"epoch": 3}, 'fit has no argument epoch; did you mean "epochs"?'),
        ((X, Y), None, {"epochs": 0}, "epochs: must be at least 1, got 0"),
        ((X, Y), None, {"seed": -1}, "seed: must be at least 0"),
        ((X, Y), None, {"schedule": "cosin"}, 'did you mean "cosine"'),
        ((X, Y), None, {"dtype": "float16"}, "dtype"),
        ((X, Y), None, {"backend": "cuda"}, "backend"),
        ((X, Y), None, {"device": "tpu"}, "tpu"),
        ((X, Y), None, {"augment": {"flipp": "random"}}, 'augment.flipp: unknown key; did you mean "flip"?'),
        ((X, Y), None, {"augment": {"flip": "random"}}, "augment.flip: the training data has no images"),
        ((X, Y), None, {"tta": "flip"}, "tta: the training data has no images"),
        ((X, Y), None, {"size": 32}, "size: only for an image tree"),
        ((X, Y), None, {"min_lr": 1.0}, "min_lr: 1 is more than train.lr"),
        ((X, Y), None, {"classes": ["a", "b"]}, "net: its output is (3,), 2 classes need (2)"),
        ((X, Y), (X[:, :3], Y), {}, "test: a sample's x is float32 (3,) in test, float32 (4,) in train"),
        ((X, Y), (X, torch.zeros(30, 3)), {}, "test: a sample's y"),
        ((X, Y[:-1]), None, {}, "the same number of samples, but have 30 and 29"),
        ((X[:0], Y[:0]), None, {}, "the same number of samples, but have 0 and 0"),
        ((X[:, :3], Y), None, {}, "net: can't take samples of shape (3,)"),
        ((X, Y + 1), None, {}, "train: classes are 1 to 3, the net has 3 outputs"),
        ((X, Y), (X, Y - 1), {}, "test: classes are -1 to 1"),
        ((X, Y[:, None]), None, {}, "y is classes (N) of whole numbers"),
        ((X, Y.float()), None, {}, "use y[:, None]"),
        ((X, torch.zeros(30, 2)), None, {}, "net: its output is (3,), y needs (2,)"),
        ((X, torch.zeros(30, 3)), None, {}, "train.loss: the training data has no classes"),
        ((X, ["a"] * 30), None, {}, "train: y must be a tensor, not list"),
        (X, None, {}, "train: expected a pair (x, y)"),
        (Squares([], []), None, {}, "train: a Dataset without samples"),
        (Squares([X, X[:5]], [0, 1]), None, {}, "samples differ in shape"),
        ((torch.zeros(30, 5, 5, 2, dtype=torch.uint8), Y), None, {}, "1 or 3 channels, not (30, 5, 5, 2)"),
        (DataLoader(TensorDataset(X, Y)), None, {"skip_fraction": 0.5}, "skip_fraction: not with"),
        (DataLoader(TensorDataset(X, Y)), None, {"augment": {"cutout": 2}}, "augment.cutout: not with"),
        (DataLoader(Squares(X.to(torch.uint8), Y)), None, {}, "a DataLoader must give floats"),
        ("nowhere", None, {}, "nowhere: no such folder"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(train, test, options, words):
    net = small_net()
    with pytest.raises((ValueError, DataError)) as e:
        fit(net, CrossEntropyLoss(), sgd(net), train, test, **options)
    assert words in str(e.value) and "\n" not in str(e.value)


def test_wrong_nets_and_optimizers_are_named():
    net, other = small_net(), small_net()
    with pytest.raises(ValueError, match="optimizer: make it with net.params"):
        fit(net, CrossEntropyLoss(), sgd(other), (X, Y))
    with pytest.raises(ValueError, match="net must be a layer of nets, not Linear"):
        fit(torch.nn.Linear(4, 3), CrossEntropyLoss(), sgd(net), (X, Y))
    with pytest.raises(ValueError, match="no parameters to train"):
        fit(ReLU(), MSELoss(), SGD({}, 0.1), (X, X))


def test_every_key_of_a_config_is_an_argument_or_is_given_otherwise():
    """Of the sections that fit has; a new key must be one or the other."""
    keys = {"epochs", "checkpoint_every_steps", "checkpoint_every_seconds", "log_every_steps", "tensorboard"}
    keys |= {"tta", "tta_fraction", "skip_fraction", "progressive_sizes", "size", "num_workers"}
    assert keys <= KEYS.keys() and not {"lr", "loss", "root", "every_steps"} & KEYS.keys()
    assert len(set(KEYS.values())) == len(KEYS)
    assert dataclasses.is_dataclass(config.Train)


def test_a_second_fit_leaves_whitening_filters_as_they_are():
    images, classes = torch.randint(256, (40, 8, 8, 3), dtype=torch.uint8), torch.arange(40) % 3
    net = Sequential(Whiten2d(3), ReLU(), GlobalAvgPool(), Linear(24, 3))
    weights = []
    for x in (images, images // 2 + images.flip(1) // 2):
        fit(net, CrossEntropyLoss(), SGD(net.params, 0.1), (x, classes), epochs=1, bar=False)
        weights.append(net[0].buffers["weight"].clone())
    assert net[0].is_fitted() and torch.equal(*weights)


def test_a_net_that_cannot_take_a_progressive_size_is_refused_before_training(tmp_path):
    x, y = torch.randint(0, 256, (20, 8, 8, 3), dtype=torch.uint8), torch.arange(20) % 2
    net = Sequential(Flatten(), Linear(192, 2))
    with pytest.raises(ValueError, match=r"train\.progressive_sizes: the net can't take 6 × 6"):
        fit(net, CrossEntropyLoss(), SGD(net.params, 0.1), (x, y), progressive_sizes=[6, 8], out=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("images", [False, True])
def test_a_validation_split_of_tensors_selects_the_best(images, tmp_path):
    x, y = problem(90)
    if images:
        x = (x[:, :, None] * 20 + 128).clamp(0, 255).to(torch.uint8)
    net = Sequential(Flatten(), Linear(4, 3))
    run = fit(net, CrossEntropyLoss(), sgd(net), (x, y), epochs=2, validation=0.2, out=tmp_path, bar=False)
    assert len(run.data.val_x) == 18 and (tmp_path / "best.safetensors").exists()
    assert "val_top1" in run.history[-1] and run.metrics == {}


def test_a_validation_split_of_a_loader_is_refused():
    net = small_net()
    with pytest.raises(ValueError, match=r"data\.validation: not with a DataLoader"):
        fit(net, CrossEntropyLoss(), sgd(net), DataLoader(TensorDataset(X, Y)), validation=0.2)
