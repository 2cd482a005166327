"""fit: any net on tensors, Datasets, DataLoaders and image trees."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from nets.common.errors import NonFiniteError, UsageError
from nets.data import datasets
from nets.fitting import fit
from nets.layers import (
    BatchNorm2d,
    Conv2d,
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
from nets.training import config
from nets.training.hooks import Hook
from tests.small_problem import problem, sgd, small_net

pytestmark = pytest.mark.usefixtures("no_pictures")


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


def test_a_second_fit_leaves_whitening_filters_as_they_are():
    images, classes = torch.randint(256, (40, 8, 8, 3), dtype=torch.uint8), torch.arange(40) % 3
    net = Sequential(Whiten2d(3), ReLU(), GlobalAvgPool(), Linear(24, 3))
    weights = []
    for x in (images, images // 2 + images.flip(1) // 2):
        fit(net, CrossEntropyLoss(), SGD(net.params, 0.1), (x, classes), epochs=1, bar=False)
        weights.append(net[0].buffers["weight"].clone())
    assert net[0].is_fitted() and torch.equal(*weights)


@pytest.mark.parametrize("images", [False, True])
def test_a_validation_split_of_tensors_selects_the_best(images, tmp_path):
    x, y = problem(90)
    if images:
        x = (x[:, :, None] * 20 + 128).clamp(0, 255).to(torch.uint8)
    net = Sequential(Flatten(), Linear(4, 3))
    run = fit(net, CrossEntropyLoss(), sgd(net), (x, y), epochs=2, validation=0.2, out=tmp_path, bar=False)
    assert len(run.data.val_x) == 18 and (tmp_path / "best.safetensors").exists()
    assert "val_top1" in run.history[-1] and run.metrics == {}
