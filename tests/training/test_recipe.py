"""What a recipe may ask for: smaller pictures, samples that sit out, constants, several views."""

import dataclasses

import pytest
import torch

from nets.data import augment, sampler
from nets.data.datasets import Dataset
from nets.data.selection import Selection
from nets.data.tta import TTA, least_certain, predict_tta
from nets.layers.containers import Sequential
from nets.layers.conv import Conv2d
from nets.layers.linear import Flatten, Linear
from nets.layers.pool import GlobalMaxPool
from nets.losses import CrossEntropyLoss
from nets.optim.param_groups import frozen_names
from nets.optim.schedules import lr_factor
from nets.optim.sgd import SGD
from nets.training import config
from nets.training.config import Augment, Data, Eval
from nets.training.evaluate import outputs
from nets.training.step import train_step
from nets.training.trainer import Run
from tests.helpers import tensors

CPU = torch.device("cpu")


def plan_of(n, epoch=0):
    return sampler.epoch_plan(
        n, (3, 4, 4), Data(), Augment(crop_padding=1, flip="alternating"), 0, epoch, CPU
    )


def test_nobody_sits_out_before_their_time_or_of_the_harder_half():
    selection = Selection(100, 0.5, skip_after_epochs=2, device=CPU)
    for epoch in range(2):
        assert len(selection.select(plan_of(100), 0, epoch).order) == 100
        assert (selection.weight == 1).all()
    selection.update(torch.arange(100), torch.arange(100.0))
    chosen = selection.select(plan_of(100), 0, 2)
    assert len(chosen.order) == 75 == 100 - selection.num_skipped(2)
    assert set(range(50, 100)) <= set(chosen.order.tolist())
    assert len(chosen.shift) == len(chosen.flip) == 75
    whole = plan_of(100)
    kept = [i for i, k in enumerate(whole.order.tolist()) if k in set(chosen.order.tolist())]
    assert torch.equal(chosen.order, whole.order[kept]) and torch.equal(chosen.shift, whole.shift[kept])


def test_who_stays_counts_for_those_who_sit_out():
    selection = Selection(1000, 0.4, skip_after_epochs=0, device=CPU)
    selection.update(torch.arange(1000), torch.rand(1000))
    gradient, draws = torch.rand(1000), []
    for epoch in range(400):
        chosen = selection.select(plan_of(1000, epoch), 0, epoch)
        draws.append((selection.weight * gradient)[chosen.order].sum())
    assert torch.stack(draws).mean() == pytest.approx(gradient.sum().item(), rel=0.005)
    assert torch.stack(draws).std() > 0
    again = Selection(1000, 0.4, skip_after_epochs=0, device=CPU)
    again.update(torch.arange(1000), selection.scores)
    assert torch.equal(chosen.order, again.select(plan_of(1000, 399), 0, 399).order)


def test_the_weighted_step_tells_what_each_sample_taught():
    torch.manual_seed(0)
    net, x, y = Sequential(Linear(4, 3)), torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    loss, weight = CrossEntropyLoss(0.1, "sum"), torch.tensor([1.0, 0, 2, 1, 0])
    plain = {k: v.clone() for k, v in net.params.items()}
    z = net.forward(x)[0]
    dz = loss(z, y)[1]
    step = train_step(net, loss, SGD(net.params, 0.5), weighted=True)
    value, _, lessons = step(x, y, 1.0, weight)
    assert torch.allclose(lessons, dz.abs().sum(1)) and torch.allclose(value, loss(z, y)[0])
    wanted = plain["0.weight"] - 0.5 * (dz * weight[:, None]).T @ x
    assert torch.allclose(net.params["0.weight"], wanted, atol=1e-6)


def test_resize_is_bilinear_and_keeps_the_layout():
    x = torch.arange(4.0).expand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    y = augment.resize(x, 2)
    assert y.shape == (2, 3, 2, 2) and y.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(y[0, 0, 0], torch.tensor([0.5, 2.5]))
    assert augment.resize(x.bfloat16(), 3).dtype == torch.bfloat16


def test_schedules_go_no_lower_than_the_floor():
    found = [lr_factor("linear", i, 10, min_factor=0.25) for i in range(10)]
    assert found[0] == 1 and found[5] == 0.5 and found[8:] == [0.25, 0.25]


def test_a_group_trains_until_its_epoch():
    names = ["0.bias", "1.bias", "1.weight"]
    groups = [{"match": ["0.*"], "until_epoch": 1.5}, {"match": ["*.bias"], "until_epoch": 0.0}]
    assert frozen_names(names, groups, 0.0) == ["1.bias"]
    assert frozen_names(names, groups, 1.5) == ["0.bias", "1.bias"]


def test_a_constant_is_not_stepped():
    params = {"a": torch.ones(2), "b": torch.ones(2)}
    optimizer = SGD(params, 0.1, 0.9, weight_decay=0.1)
    optimizer.constants = {"a"}
    optimizer.step({"a": torch.ones(2), "b": torch.ones(2)})
    assert (params["a"] == 1).all() and (params["b"] < 1).all()
    optimizer.step({"a": torch.ones(2)})  # b is spared its backward
    assert (params["b"] < 1).all()


def frozen_net():
    torch.manual_seed(0)
    return Sequential(Conv2d(3, 4, 3), Conv2d(4, 4, 3, bias=False), GlobalMaxPool(), Flatten(), Linear(4, 2))


def test_freezing_spares_first_layers_and_changes_no_other_gradient():
    net, x, dy = frozen_net(), torch.randn(2, 3, 8, 8), torch.randn(2, 2)
    wanted = net.backward(net.forward(x)[1], dy)[1]
    net.freeze(["0.weight", "0.bias"])
    assert net.frozen == 1
    saved = net.forward(x)[1]
    dx, grads = net.backward(saved, dy)
    assert dx is None and saved == []
    assert list(grads) == [name for name in wanted if not name.startswith("0.")]
    assert all(torch.equal(g, wanted[name]) for name, g in grads.items())
    assert net.children["1"].backward(x[:, :1].expand(2, 4, 8, 8), torch.randn(2, 4, 6, 6))[0] is None
    net.freeze(["1.weight"])
    assert net.frozen == 0


def test_freezing_leaves_a_layer_that_is_used_again_its_dx():
    layer = Conv2d(3, 3, 3, padding=1)
    net = Sequential(Flatten(), Linear(12, 12))
    net.freeze()
    assert net.frozen == 1 and not net.children["1"].input_grad
    net = Sequential(layer, layer)
    net.freeze()
    assert layer.input_grad


def test_views_of_six_are_the_mean_of_mirrored_and_moved():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 6).contiguous(memory_format=torch.channels_last)
    views = TTA["six_view"](x)
    assert len(views) == 6 and sum(w for w, _ in views) == 1
    assert all(v.shape == x.shape for _, v in views)
    moved = views[2][1]
    assert torch.equal(moved[:, :, 1:, 1:], x[:, :, :-1, :-1]) and torch.equal(
        moved[:, :, 0, 1:], x[:, :, 1, :-1]
    )
    assert torch.equal(views[3][1], moved.flip(3))
    assert torch.equal(views[4][1][:, :, :-1, :-1], x[:, :, 1:, 1:])
    net = frozen_net().eval()
    by_hand = sum(w * net.forward(v)[0] for w, v in views)
    assert torch.allclose(predict_tta(net, x, "six_view"), by_hand, atol=1e-6)
    assert torch.equal(predict_tta(net, x, "none"), net.forward(x)[0])


def test_views_of_the_corners_reach_every_neighbour():
    x = torch.arange(36.0).reshape(1, 1, 6, 6).expand(1, 3, 6, 6)
    views = TTA["corners"](x)
    assert len(views) == 10 and sum(w for w, _ in views) == pytest.approx(1)
    middles = {v[0, 0, 2, 2].item() for _, v in views[::2]}
    assert middles == {x[0, 0, i, j].item() for i, j in [(2, 2), (1, 1), (3, 3), (1, 3), (3, 1)]}


def test_only_the_doubtful_are_looked_at_again():
    z = torch.tensor([[9.0, 0, 0], [1, 1.1, 0], [0, 5, 0], [2, 2, 2]])
    assert least_certain(z, 0.5).tolist() == [1, 3]
    assert least_certain(z, 0.0).tolist() == []
    torch.manual_seed(0)
    net = frozen_net()
    x = torch.randint(256, (10, 8, 8, 3), dtype=torch.uint8)
    d = Dataset(x, None, x, None, ("a", "b"), torch.full((3,), 0.5), torch.full((3,), 0.3))
    one = outputs(net, x, d, torch.float32, True)
    all_six = outputs(net, x, d, torch.float32, True, asked=Eval("six_view"))
    some = outputs(net, x, d, torch.float32, True, asked=Eval("six_view", 0.3))
    again = least_certain(one, 0.3)
    assert torch.allclose(some[again], all_six[again], atol=1e-5)
    rest = [i for i in range(10) if i not in again.tolist()]
    assert torch.equal(some[rest], one[rest]) and not torch.allclose(one[again], all_six[again])
    assert net.training


LAYERS = (
    {"type": "Conv2d", "out_channels": 16, "kernel_size": 3, "padding": 1},
    {"type": "MaxPool2d", "kernel_size": 2},
    "BatchNorm2d", "ReLU", "GlobalMaxPool", {"type": "Linear", "outputs": 10},
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

    run = Run(recipe(dtype=dtype), CPU, tmp_path)
    seen = []
    step = run.step
    run.step = lambda x, *rest: seen.append((x.shape[-1], len(x))) or step(x, *rest)
    run.train()
    n = len(run.data.train_y)
    assert [s for s, _ in seen] == [6] * (n // 256) + [8] * ((n - n // 4) // 256)
    facts = json.loads((tmp_path / "result.json").read_text())
    assert facts["one_view"].keys() == {"top1", "top5"} and facts["eval_seconds"] > 0


def test_a_group_of_a_run_stops_training_on_time(tmp_path):
    groups = ({"match": ["0.*"], "until_epoch": 1.0}, {"match": ["2.weight"], "until_epoch": 0.0})
    conf = recipe()
    conf = dataclasses.replace(conf, train=dataclasses.replace(conf.train, param_groups=groups))
    run = Run(conf, CPU, tmp_path)
    marks, step = [], run.step

    def watched(*batch):
        marks.append({k: v.clone() for k, v in run.net.params.items()})
        return step(*batch)

    run.step = watched
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
    dx, left = net.backward(net.forward(x)[1], dy, take=taken.append)
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
