"""The optimizer against torch.optim, and the schedules."""

from pathlib import Path

import pytest
import torch

from nets.losses import CrossEntropyLoss
from nets.optim.muon import A, B, C, Muon, orthogonal
from nets.optim.schedules import lr_factor
from nets.optim.sgd import SGD
from nets.training import config, make
from nets.training.step import train_step

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(momentum=0.9),
        dict(momentum=0.9, nesterov=True),
        dict(weight_decay=0.1),
        dict(momentum=0.8, nesterov=True, weight_decay=0.05),
    ],
)
def test_sgd_is_torchs(options, maximize):
    mine = {"a": torch.randn(3, 4), "b": torch.randn(5)}
    theirs = [v.clone().requires_grad_() for v in mine.values()]
    places = [v.data_ptr() for v in mine.values()]
    sgd = SGD(mine, 0.3, maximize=maximize, **options)
    other = torch.optim.SGD(theirs, 0.3, maximize=maximize, **options)
    for _ in range(5):
        grads = {k: torch.randn_like(v) for k, v in mine.items()}
        for w, g in zip(theirs, grads.values()):
            w.grad = g.clone()
        sgd.step(grads)
        other.step()
    assert [v.data_ptr() for v in mine.values()] == places  # in place
    for a, b in zip(mine.values(), theirs):
        torch.testing.assert_close(a, b.detach())


def test_the_rate_may_be_a_tensor():
    a, b = {"w": torch.ones(3)}, {"w": torch.ones(3)}
    SGD(a, 0.5).step({"w": torch.ones(3)}, 0.5)
    SGD(b, 0.5).step({"w": torch.ones(3)}, torch.tensor(0.5))
    assert torch.equal(a["w"], b["w"]) and a["w"][0] == 0.75


def test_parameter_groups():
    params = {"0.weight": torch.ones(2), "0.bias": torch.ones(2), "1.bias": torch.ones(2)}
    groups = [
        {"match": ["1.*"], "lr_scale": 0.0},
        {"match": ["*.bias"], "lr_scale": 10.0, "weight_decay": 0.0, "momentum": 0.0},
    ]
    sgd = SGD(params, 0.01, momentum=0.9, weight_decay=1.0, groups=groups)
    sgd.step({k: torch.ones(2) for k in params})
    assert params["1.bias"][0] == 1  # the first group that matches counts
    assert params["0.bias"][0] == pytest.approx(0.9)
    assert params["0.weight"][0] == pytest.approx(1 - 0.01 * 2)
    assert list(sgd.velocity) == ["0.weight", "1.bias"]


def test_schedules():
    assert [lr_factor("constant", i, 4) for i in range(4)] == [1, 1, 1, 1]
    assert [lr_factor("linear", i, 4) for i in range(4)] == [1, 0.75, 0.5, 0.25]
    assert lr_factor("cosine", 2, 4) == pytest.approx(0.5)
    assert lr_factor("cosine", 1, 4) == pytest.approx(0.853553, abs=1e-6)
    assert [lr_factor("step", i, 8) for i in range(8)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3]
    )
    rates = [lr_factor("linear", i, 10, 4) for i in range(10)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:] == sorted(rates[5:], reverse=True) and rates[-1] == pytest.approx(1 / 6)


@pytest.mark.parametrize("shape", [(8, 8), (6, 27), (40, 9), (1, 5)])
def test_orthogonal_is_torchs(shape):
    from torch.optim._muon import _zeropower_via_newtonschulz

    for scale in (1.0, 1e-4, 1e4):
        g = torch.randn(shape) * scale
        theirs = _zeropower_via_newtonschulz(g, (A, B, C), 5, 1e-7).float()
        assert (orthogonal(g, 5) - theirs).norm() < 0.1 * theirs.norm()  # rounded to bfloat16, and grown


def test_orthogonal_keeps_the_directions_and_evens_the_lengths():
    u, _, v = torch.linalg.svd(torch.randn(16, 40), full_matrices=False)
    g = (u * torch.logspace(0, -1.5, 16)) @ v
    x = orthogonal(g, 5).double()
    assert x.shape == g.shape and x.dtype == torch.float64
    lengths = torch.linalg.svdvals(x)
    assert lengths.min() > 0.65 and lengths.max() < 1.25
    within = (u.double().T @ x @ v.double().T).abs()  # near diagonal: the same directions
    assert (within - within.diag().diag()).max() < 0.1


def filters_and_rest():
    torch.manual_seed(2)
    return {"0.weight": torch.randn(8, 3, 3, 3), "1.weight": torch.randn(5, 8), "1.bias": torch.randn(5)}


@pytest.mark.parametrize("options", [dict(), dict(momentum=0.6), dict(momentum=0.6, nesterov=True)])
@pytest.mark.parametrize("maximize", [False, True])
def test_muon_steps_filters_along_the_orthogonal_and_the_rest_as_sgd(options, maximize):
    mine, theirs = filters_and_rest(), filters_and_rest()
    places = [v.data_ptr() for v in mine.values()]
    group = dict(match=["*.bias"], lr_scale=3.0, momentum=0.5, weight_decay=0.01)
    options = options | dict(maximize=maximize, groups=[group])
    muon, sgd = Muon(mine, 0.1, **options), SGD(theirs, 0.1, **options)
    w, v = theirs["0.weight"].clone(), 0.0
    for _ in range(3):
        grads = {k: torch.randn_like(p) for k, p in mine.items()}
        muon.step(grads, 0.5)
        sgd.step(grads, 0.5)
        g = -grads["0.weight"] if maximize else grads["0.weight"]
        momentum = options.get("momentum", 0.0)
        v = momentum * v + g
        u = g + momentum * v if options.get("nesterov") else v
        w = w * (8**0.5 / w.norm()) - 0.1 * 0.5 * orthogonal(u.reshape(8, 27)).reshape(w.shape).float()
    torch.testing.assert_close(mine["0.weight"], w)
    assert torch.equal(mine["1.weight"], theirs["1.weight"]) and torch.equal(mine["1.bias"], theirs["1.bias"])
    assert [p.data_ptr() for p in mine.values()] == places


def test_muon_by_its_name_in_a_config():
    conf = config.load(ROOT / "configs/digits.toml", ["train.optimizer=muon", "train.lr=0.1"])
    net = make.make_net(conf, (1, 8, 8), 10)
    optimizer = make.make_optimizer(conf, net, CrossEntropyLoss())
    assert type(optimizer) is Muon
    step = train_step(net, CrossEntropyLoss(), optimizer)
    x, target = torch.randn(64, 1, 8, 8), torch.arange(64) % 10
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    first = step(x, target, torch.ones(()))[0]
    losses = [compiled(x, target, torch.ones(()))[0] for _ in range(15)]
    assert losses[-1] < 0.5 * first
