"""What a recipe may ask for: smaller pictures, samples that sit out, constants, several views."""

import dataclasses

import pytest
import torch

from nets.data.datasets import Dataset
from nets.data.tta import least_certain
from nets.layers.containers import Sequential
from nets.layers.conv import Conv2d
from nets.layers.linear import Flatten, Linear
from nets.layers.pool import GlobalMaxPool
from nets.losses import CrossEntropyLoss
from nets.optim.param_groups import frozen_names
from nets.optim.schedules import lr_factor
from nets.optim.sgd import SGD
from nets.training import config
from nets.training.config import Eval
from nets.training.evaluate import outputs
from nets.training.hooks import Hook
from nets.training.run import Run
from nets.training.step import train_step
from tests.helpers import tensors

CPU = torch.device("cpu")


def test_the_weighted_step_tells_what_each_sample_taught():
    torch.manual_seed(0)
    net, x, y = Sequential(Linear(4, 3)), torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    loss, weight = CrossEntropyLoss(0.1, "sum"), torch.tensor([1.0, 0, 2, 1, 0])
    plain = {k: v.clone() for k, v in net.params.items()}
    z = net.forward(x)[0]
    dz = loss(z, y)[1]
    step = train_step(net, loss, SGD(net.params, 0.5), weighted=True)
    value, _, _, scores = step(x, y, 1.0, weight)
    assert torch.allclose(scores, dz.abs().sum(1)) and torch.allclose(value, loss(z, y)[0])
    wanted = plain["0.weight"] - 0.5 * (dz * weight[:, None]).T @ x
    assert torch.allclose(net.params["0.weight"], wanted, atol=1e-6)


def test_schedules_go_no_lower_than_min_factor():
    found = [lr_factor("linear", i, 10, min_factor=0.25) for i in range(10)]
    assert found[0] == 1 and found[5] == 0.5 and found[8:] == [0.25, 0.25]


def test_a_group_trains_until_its_epoch():
    names = ["0.bias", "1.bias", "1.weight"]
    groups = [{"match": ["0.*"], "until_epoch": 1.5}, {"match": ["*.bias"], "until_epoch": 0.0}]
    assert frozen_names(names, groups, 0.0) == {"1.bias"}
    assert frozen_names(names, groups, 1.5) == {"0.bias", "1.bias"}


def test_a_parameter_without_a_gradient_is_not_stepped():
    params = {"a": torch.ones(2), "b": torch.ones(2)}
    optimizer = SGD(params, 0.1, 0.9, weight_decay=0.1)
    optimizer.step({"b": torch.ones(2)})
    assert (params["a"] == 1).all() and (params["b"] < 1).all()


def frozen_net():
    torch.manual_seed(0)
    return Sequential(Conv2d(3, 4, 3), Conv2d(4, 4, 3, bias=False), GlobalMaxPool(), Flatten(), Linear(4, 2))


def test_frozen_first_layers_have_no_backward_and_other_gradients_are_the_same(monkeypatch):
    net, x, dy = frozen_net(), torch.randn(2, 3, 8, 8), torch.randn(2, 2)
    wanted = net.backward(net.forward(x)[1], dy)[1]
    called, backward = [], Conv2d.backward

    def watched(self, saved, dy, input_grad=True):
        called.append((self, input_grad))
        return backward(self, saved, dy, input_grad)

    monkeypatch.setattr(Conv2d, "backward", watched)
    saved = net.forward(x)[1]
    frozen = frozenset(["0.weight", "0.bias"])
    dx, grads = net.backward(saved, dy, input_grad=False, frozen=frozen)
    assert dx is None and saved == []
    assert list(grads) == [name for name in wanted if not name.startswith("0.")]
    assert all(torch.equal(g, wanted[name]) for name, g in grads.items())
    assert called == [(net[1], False)]  # nothing before it is trained, so its dx is left out
    net.backward(net.forward(x)[1], dy, input_grad=False, frozen=frozenset(["1.weight"]))
    assert called[1:] == [(net[1], True), (net[0], False)]


def test_a_layer_used_twice_keeps_its_dx_in_the_second_place():
    layer, x = Conv2d(3, 3, 3, padding=1), torch.randn(2, 3, 4, 4)
    net, dy = Sequential(layer, layer), torch.randn(2, 3, 4, 4)
    wanted = net.backward(net.forward(x)[1], dy)[1]
    found = net.backward(net.forward(x)[1], dy, input_grad=False)[1]
    assert found.keys() == wanted.keys() and all(torch.equal(g, wanted[k]) for k, g in found.items())


def test_tta_fraction_augments_the_least_certain_images_alone():
    net = frozen_net()
    x = torch.randint(256, (10, 8, 8, 3), dtype=torch.uint8)
    y = torch.zeros(10, dtype=torch.int64)
    d = Dataset(x, y, x, y, ("a", "b"), torch.full((3,), 0.5), torch.full((3,), 0.3))
    one = outputs(net, x, d, torch.float32, True)
    all_six = outputs(net, x, d, torch.float32, True, settings=Eval("six_view"))
    some = outputs(net, x, d, torch.float32, True, settings=Eval("six_view", 0.3))
    again = least_certain(one, 0.3)
    assert torch.allclose(some[again], all_six[again], atol=1e-5)
    rest = [i for i in range(10) if i not in again.tolist()]
    assert torch.equal(some[rest], one[rest]) and not torch.allclose(one[again], all_six[again])
    assert net.training


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
def test_a_whole_recipe_runs_and_reports_both_ways_of_looking(tmp_path, dtype):
    import json

    run, seen = Run.from_config(recipe(dtype=dtype), CPU, tmp_path), []
    step = run.learner.step
    run.learner.step = lambda x, *rest: seen.append((x.shape[-1], len(x))) or step(x, *rest)
    run.train()
    n = len(run.data.train_y)
    assert [s for s, _ in seen] == [6] * (n // 256) + [8] * ((n - n // 4) // 256)
    facts = json.loads((tmp_path / "result.json").read_text())
    assert facts["one_view"].keys() == {"top1", "top5"} and facts["eval_seconds"] > 0


def test_a_group_of_a_run_stops_training_on_time(tmp_path):
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


def test_recompute_keeps_less_where_a_norm_follows_an_activation():
    torch.manual_seed(0)
    from nets.layers.activations import GELU
    from nets.layers.norm import BatchNorm2d

    layers = [Conv2d(3, 8, 3), GELU(), BatchNorm2d(8), GELU(), Conv2d(8, 8, 3)]
    x, sizes, found = torch.randn(2, 3, 9, 9), [], []
    for again in (False, True):
        net = Sequential(*layers, recompute=again)
        y, saved = net.forward(x)
        sizes.append(sum(t.numel() for t in {id(t): t for s in saved for t in tensors(s)}.values()))
        found.append(net.backward(saved, torch.ones_like(y)))
    assert sizes[1] < sizes[0]
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    for name, g in found[0][1].items():
        assert torch.allclose(g, found[1][1][name], rtol=1e-4, atol=1e-5), name


def test_gradients_are_taken_layer_by_layer_and_are_the_same():
    torch.manual_seed(0)
    shared = Linear(4, 4)
    net = Sequential(Linear(4, 4), shared, Linear(4, 4), shared, Sequential(Linear(4, 4), Linear(4, 3)))
    x, dy, taken = torch.randn(5, 4), torch.randn(5, 3), []
    whole = net.backward(net.forward(x)[1], dy)
    dx, left = net.backward(net.forward(x)[1], dy, on_grads=taken.append)
    assert left == {} and torch.equal(dx, whole[0])
    assert [sorted(t) for t in taken if t] == [
        ["4.0.bias", "4.0.weight", "4.1.bias", "4.1.weight"], ["2.bias", "2.weight"],
        ["1.bias", "1.weight"], ["0.bias", "0.weight"],
    ]  # fmt: skip
    found = {k: g for t in taken for k, g in t.items()}
    assert found.keys() == whole[1].keys()
    assert all(torch.equal(g, whole[1][k]) for k, g in found.items())


@pytest.mark.parametrize("kind", ["sgd", "muon"])
def test_a_step_that_updates_layer_by_layer_is_the_one_that_updates_at_the_end(kind):
    from nets.layers.activations import GELU
    from nets.layers.norm import BatchNorm2d
    from nets.optim.muon import Muon

    x, y, found = torch.randn(6, 3, 8, 8), torch.randint(2, (6,)), []
    for layerwise in (True, False):
        torch.manual_seed(0)
        conv = Conv2d(4, 4, 3, padding=1)
        layers = [Conv2d(3, 4, 3), BatchNorm2d(4), GELU(), conv, GELU(), conv, GlobalMaxPool(), Linear(4, 2)]
        net = Sequential(*layers, recompute=True)
        optimizer = {"sgd": SGD, "muon": Muon}[kind](net.params, 0.1, 0.9, True)
        optimizer.layerwise = layerwise
        step = train_step(net, CrossEntropyLoss(), optimizer)
        found.append([float(step(x, y, 1.0)[0]) for _ in range(4)])
        found[-1] += [p.clone() for p in net.params.values()]
    assert found[0][0] != found[0][3]
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(*found))


def test_updating_layer_by_layer_never_holds_all_gradients():
    """The largest sum of bytes of gradients that live at once, of four layers alike."""
    from torch.utils._python_dispatch import TorchDispatchMode

    torch.manual_seed(0)
    net = Sequential(*(Linear(64, 64, bias=False) for _ in range(4)))
    alive, most = set(), []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            import weakref

            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.shape == (64, 64) and "mm" in str(func):
                alive.add(id(out))
                weakref.finalize(out, alive.discard, id(out))
                most.append(len(alive))
            return out

    for layerwise, allowed in ((True, 2), (False, 4)):
        optimizer = SGD(net.params, 0.1)
        optimizer.layerwise = layerwise
        step = train_step(net, CrossEntropyLoss(), optimizer)
        with Watch():
            step(torch.randn(3, 64), torch.tensor([0, 1, 2]), 1.0)
        assert max(most) <= allowed and (layerwise or max(most) == 4)
        most.clear()
