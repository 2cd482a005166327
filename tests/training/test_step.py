"""The whole train step: without autograd, compiled whole, and on a (fake) CUDA device."""

import inspect
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from nets.commands.targets import narrow
from nets.data import augment, sampler
from nets.data import datasets as data
from nets.layers.activations import ReLU
from nets.layers.containers import Sequential
from nets.layers.linear import Linear
from nets.losses import CrossEntropyLoss
from nets.optim.sgd import SGD
from nets.training import config
from nets.training.guard import Guard
from nets.training.make import make_loss, make_net, make_optimizer
from nets.training.step import num_correct, train_step
from tests.helpers import CUDA, DEVICES

CONFIGS = sorted(Path(__file__).parents[2].glob("configs/*.toml"))
NAMES = [p.stem for p in CONFIGS]
DEEP = pytest.mark.deep


def set_up(path, device="cpu", batch=4, overrides=()):
    """A config's step and one batch, through the same code as a run's: (step, x, target, net)."""
    conf = config.load(path, [*narrow(path), *overrides])
    shape, outputs = data.shapes(conf.data)
    toy = len(shape) == 1
    net = make_net(conf, shape, outputs).to(device)
    loss = make_loss(conf, not toy)
    step = train_step(net, loss, make_optimizer(conf, net, loss), guard=Guard("stop", device))
    dtype = getattr(torch, conf.train.dtype)
    if toy:
        x = torch.rand(batch, *shape, device=device, dtype=dtype)
        return step, x, torch.rand(batch, outputs, device=device), net
    c, h, w = shape
    side = conf.data.size if conf.data.crop_size else h
    pictures = torch.randint(0, 256, (9, side, side, c), dtype=torch.uint8, device=device)
    plan = sampler.epoch_plan(9, shape, conf.data, conf.augment, 0, 0, device).batch(0, batch)
    mean = torch.full((c,), 0.5, device=device)
    x = augment.normalize(augment.crop_and_flip(pictures, plan, conf.data.crop_size), mean, mean, dtype)
    if plan.color is not None:
        x = augment.color_jitter(x, plan.color, torch.eye(c, device=device), mean)
    if plan.hole is not None:
        x = augment.cutout(x, plan.hole, conf.augment.cutout)
    return step, x, torch.randint(outputs, (batch,), device=device), net


@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_no_autograd(path, monkeypatch):
    """With autograd's entry points made to raise, every config still trains, and learns."""

    def forbidden(name):
        def raises(*_, **__):
            raise AssertionError(f"autograd was used: {name}")

        return raises

    entries = [(torch.autograd, "backward"), (torch.autograd, "grad"), (torch.autograd.Function, "apply")]
    for owner, name in [*entries, (torch.Tensor, "backward"), (torch.Tensor, "requires_grad_")]:
        monkeypatch.setattr(owner, name, forbidden(name))
    step, x, target, net = set_up(path, overrides=["train.lr=0.01"])
    values = [step(x, target, 1.0)[0] for _ in range(4)]
    assert all(v.grad_fn is None and not v.requires_grad for v in values)
    assert not any(p.requires_grad for p in net.params.values())
    assert all(v.isfinite() for v in values)
    better = values[-1] > values[0] if values[0] < 0 else values[-1] < values[0]
    assert better, values


class OnlyOn(TorchDispatchMode):
    """Raises when an operator makes a tensor anywhere but on a device of this type."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(t, torch.Tensor) and t.device.type != self.kind:
                raise AssertionError(f"{func} made a tensor on {t.device}")
        return out


@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_a_step_stays_on_a_fake_cuda_device(path, monkeypatch):
    with FakeTensorMode():
        # what an epoch draws is drawn on the CPU and moved; a step begins after that
        monkeypatch.setattr(sampler, "epoch_plan", fake_plan)
        step, x, target, net = set_up(path, "cuda")
        assert x.device.type == "cuda"
        factor = torch.ones((), device="cuda")
        with OnlyOn("cuda"):
            result = step(x, target, factor)
        found = [t for t in result if t is not None]
        assert len(found) == 3 and all(t.device.type == "cuda" for t in found)
        assert all(p.device.type == "cuda" for p in net.params.values())


def fake_plan(n, shape, conf, augment, seed, epoch, device):
    return sampler.EpochPlan(
        torch.arange(n, device=device),
        torch.ones(n, 2, dtype=torch.int64, device=device)
        if augment.crop_padding or conf.crop_size
        else None,
        torch.ones(n, dtype=torch.bool, device=device) if augment.flip != "none" else None,
        torch.ones(n, 2, dtype=torch.int64, device=device) if augment.cutout else None,
        torch.ones(n, 3, device=device) if augment.color_jitter else None,
    )


@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_a_step_reads_nothing_back_to_the_host(path):
    """`.item()` and its kin wait for the device; under FakeTensorMode they raise."""
    with FakeTensorMode():
        step, x, target, _ = set_up(path, "cpu")
        step(x, target, torch.ones(()))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "path, options",
    [
        *(
            pytest.param(p, (), marks=DEEP if p.stem in ("alexnet", "cifar10_resnet") else ())
            for p in CONFIGS
            if p.stem != "cifar100"
        ),
        (CONFIGS[NAMES.index("digits")], ("net.backend=torch",)),
        pytest.param(
            CONFIGS[NAMES.index("cifar10")], ("net.backend=torch", "net.recompute=true"), marks=DEEP
        ),
    ],
    ids=lambda v: ",".join(v) if isinstance(v, tuple) else v.stem,
)
def test_the_step_compiles_whole(path, options, device):
    """One graph, and the same numbers as eagerly."""
    torch._dynamo.reset()  # each config is a graph of its own
    results = []
    for compiled in (False, True):
        overrides = [*options, "train.dtype=float32", "train.lr=0.01"]
        torch.manual_seed(1)
        step, x, target, net = set_up(path, device, 4, overrides)
        for layer in net.walk():
            if hasattr(layer, "p"):
                layer.p = 0.0  # a compiled draw is another draw
                layer.scale = 1.0
        run = torch.compile(step, fullgraph=True, backend="aot_eager") if compiled else step
        torch.manual_seed(0)
        values = [run(x, target, torch.ones((), device=device))[0] for _ in range(3)]
        results.append((torch.stack(values), net))
    (a, one), (b, two) = results
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    # in Muon's bfloat16 products the last bit of a gradient can become a hundredth of a step
    atol = 5e-5 if device == "cuda" and path.stem == "cifar10" else 1e-5
    for (k, p), q in zip((one.params | one.buffers).items(), (two.params | two.buffers).values()):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=atol, msg=lambda m: f"{k}: {m}")


def test_the_step_leaves_out_the_gradient_of_the_data(monkeypatch):
    step, x, target, net = set_up(CONFIGS[NAMES.index("digits")])
    asked, backward = [], type(net[0]).backward

    def watched(self, saved, dy, input_grad=True):
        asked.append((self is net[0], input_grad))
        return backward(self, saved, dy, input_grad)

    watched.__signature__ = inspect.signature(backward)
    monkeypatch.setattr(type(net[0]), "backward", watched)
    step(x, target, 1.0)
    assert asked == [(False, True), (False, True), (True, False)]


def test_the_step_changes_nothing_about_the_net():
    """A backward after a step gives dx again, with all gradients."""
    step, x, target, net = set_up(CONFIGS[NAMES.index("digits")])
    step(x, target, 1.0, frozen=frozenset(["0.weight"]))
    y, saved = net.forward(x)
    dx, grads = net.backward(saved, torch.ones_like(y))
    assert dx.shape == x.shape and grads.keys() == net.params.keys()


@pytest.mark.parametrize("guarded", [False, True])
def test_frozen_parameters_stay_as_they_are(guarded):
    torch.manual_seed(0)
    net, x, y = Sequential(Linear(4, 5), ReLU(), Linear(5, 3)), torch.randn(6, 4), torch.arange(6) % 3
    guard = Guard("stop", "cpu") if guarded else None
    step = train_step(net, CrossEntropyLoss(), SGD(net.params, 0.5, weight_decay=0.1), guard=guard)
    before = {name: w.clone() for name, w in net.params.items()}
    frozen = frozenset(["0.weight", "0.bias", "2.bias"])
    step(x, y, 1.0, frozen=frozen)
    assert {name for name, w in net.params.items() if torch.equal(w, before[name])} == frozen
    step(x, y, 1.0)
    assert not any(torch.equal(w, before[name]) for name, w in net.params.items())


@CUDA
@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_every_config_learns_on_a_real_cuda_device(path):
    """In the config's own dtype."""
    step, x, target, _ = set_up(path, "cuda", 8, ["train.lr=0.01"])
    with OnlyOn("cuda"):
        values = [step(x, target, torch.ones((), device="cuda"))[0] for _ in range(4)]
    assert values[-1].isfinite()
    assert values[-1] > values[0] if values[0] < 0 else values[-1] < values[0]


def test_num_correct():
    z = torch.tensor([[0.1, 0.9], [0.8, 0.2]])
    assert num_correct(z, torch.tensor([1, 1])) == 1
    assert num_correct(z, torch.tensor([[0.15, 0.95], [0.8, 0.4]])) == 1


def test_a_weighted_step_returns_each_samples_score():
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
