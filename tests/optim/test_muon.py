"""Muon: filters step along the orthogonal of their gradient, everything else as in SGD."""

from pathlib import Path

import pytest
import torch

from nets.losses import CrossEntropyLoss
from nets.optim.muon import A, B, C, Muon, orthogonal
from nets.optim.sgd import SGD
from nets.training import config, make
from nets.training.step import train_step

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("shape", [(8, 8), (6, 27), (40, 9), (1, 5)])
def test_orthogonal_agrees_with_torchs(shape):
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
    options = options | dict(maximize=maximize, param_groups=[group])
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


@pytest.mark.deep
def test_a_config_chooses_muon_and_its_compiled_step_learns():
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


def test_a_config_chooses_muon_and_its_step_learns():
    conf = config.load(ROOT / "configs/digits.toml", ["train.optimizer=muon", "train.lr=0.1"])
    net = make.make_net(conf, (1, 8, 8), 10)
    optimizer = make.make_optimizer(conf, net, CrossEntropyLoss())
    assert type(optimizer) is Muon
    step = train_step(net, CrossEntropyLoss(), optimizer)
    x, target = torch.randn(64, 1, 8, 8), torch.arange(64) % 10
    losses = [step(x, target, torch.ones(())).loss for _ in range(16)]
    assert losses[-1] < 0.5 * losses[0]


def test_a_filter_without_a_gradient_stays():
    params = filters_and_rest()
    before = {k: p.clone() for k, p in params.items()}
    Muon(params, 0.1, momentum=0.6).step({"1.bias": torch.ones(5)})
    assert [k for k, p in params.items() if not torch.equal(p, before[k])] == ["1.bias"]


def test_filters_of_zeros_are_updated():
    """Their norm is 0, so they can't be scaled to the norm √O."""
    params = {"w": torch.zeros(4, 2, 3, 3)}
    muon = Muon(params, 0.1)
    for _ in range(3):
        muon.step({"w": torch.randn(4, 2, 3, 3)})
    assert params["w"].isfinite().all() and params["w"].any()
