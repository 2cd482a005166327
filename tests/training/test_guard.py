"""A step that is not finite."""

import pytest
import torch

from nets.layers.base import Layer
from nets.layers.containers import Sequential
from nets.layers.linear import Flatten, Linear
from nets.layers.norm import BatchNorm2d
from nets.losses import CrossEntropyLoss
from nets.optim.sgd import SGD
from nets.training.guard import Guard
from nets.training.make import make_loss, make_net, make_optimizer
from nets.training.step import train_step
from tests.training.ended_runs import CPU, make


class Infinite(Layer):
    """y = x, but dx is infinite once `now`."""

    now = False

    def forward(self, x):
        return x, None

    def backward(self, saved, dy):
        return dy / 0 if self.now else dy, {}


@pytest.mark.parametrize("optimizer", ["sgd", "muon", "adaptive"])
@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_step_that_is_not_finite_changes_nothing(policy, where, optimizer):
    conv, linear = (
        "{ type = 'Conv2d', out_channels = 3, kernel_size = 3 }",
        "{ type = 'Linear', out_features = 4 }",
    )
    layers = f"[{conv}, 'BatchNorm2d', 'Flatten', {linear}]"
    own = [f"train.optimizer={optimizer}", "train.param_groups=[]"]
    own += (
        ["train.momentum=0", "train.nesterov=false", "train.weight_decay=0", "augment.crop_padding=0"]
        if optimizer == "adaptive"
        else []
    )
    conf = make("", [f"net.layers={layers}", *own])
    net = make_net(conf, (1, 8, 8), 4)
    loss, infinite = make_loss(conf, True), Infinite()
    both = Sequential(*list(net.children.values())[:2], infinite, *list(net.children.values())[2:])
    opt = make_optimizer(conf, both, loss)
    guard = Guard(policy, CPU)
    step = train_step(both, loss, opt, guard=guard)
    x, y = torch.randn(5, 1, 8, 8), torch.arange(5) % 4
    assert step(x, y, 1.0)[2] and step(x, y, 1.0)[2]
    everything = [*both.params.values(), *both.buffers.values(), *opt.state().values()]
    before = [t.clone() for t in everything]
    infinite.now = where == "gradient"
    bad = torch.full_like(x, torch.nan) if where == "loss" else x
    assert not step(bad, y, 1.0)[2]
    assert all(torch.equal(a, b) for a, b in zip(everything, before))
    infinite.now = False
    assert bool(step(x, y, 1.0)[2]) == (policy == "skip")  # after a stop nothing counts
    assert all(torch.equal(a, b) for a, b in zip(everything, before)) == (policy == "stop")
    assert (int(guard.skipped), bool(guard.good)) == ((1, True) if policy == "skip" else (0, False))
    if policy == "stop":
        message = "the loss became nan" if where == "loss" else "an updated weight became infinite or NaN"
        assert message in guard.message(0)


class Broken(SGD):
    """Writes NaN into the weights once `now`, from a loss and gradients that are finite."""

    now = False

    def updates(self, grads, lr_factor=1.0, names=None):
        weights, momenta = super().updates(grads, lr_factor, names)
        return [(w, new / 0 if self.now else new) for w, new in weights], momenta


class InPlace:
    """An optimizer of one's own, with a step alone. Its momentum is another tensor after each step."""

    now = False

    def __init__(self, params, lr):
        self.params, self.lr, self.v = params, lr, {k: torch.zeros_like(w) for k, w in params.items()}

    def state(self):
        return self.v

    def step(self, grads, lr_factor=1.0, loss=None):
        for name, g in grads.items():
            self.v[name] = 0.9 * self.v[name] + (g / 0 if self.now else g)
            self.params[name].sub_(self.v[name] * self.lr)


@pytest.mark.parametrize("policy", ["stop", "skip"])
@pytest.mark.parametrize("kind", [Broken, InPlace])
def test_an_update_that_is_not_finite_is_not_taken(kind, policy):
    torch.manual_seed(0)
    net, x, y = Sequential(Linear(4, 3)), torch.randn(6, 4), torch.arange(6) % 3
    optimizer, guard = kind(net.params, 0.1), Guard(policy, CPU)
    step = train_step(net, CrossEntropyLoss(), optimizer, guard=guard)
    assert step(x, y, 1.0).ok
    everything = lambda: [*net.params.values(), *optimizer.state().values()]  # noqa: E731
    before = [t.clone() for t in everything()]
    optimizer.now = True
    assert not step(x, y, 1.0).ok
    assert all(torch.equal(a, b) for a, b in zip(everything(), before, strict=True))
    optimizer.now = False
    assert bool(step(x, y, 1.0).ok) == (policy == "skip")


def test_running_averages_that_overflow_are_not_kept():
    """Their batch has an output and a loss that are finite."""
    net = Sequential(BatchNorm2d(2), Flatten(), Linear(8, 3))
    guard = Guard("stop", CPU)
    step = train_step(net, CrossEntropyLoss(), SGD(net.params, 0.1), guard=guard)
    x, y = torch.randn(6, 2, 2, 2), torch.arange(6) % 3
    assert step(x, y, 1.0).ok and not step(x * 1e25, y, 1.0).ok
    assert all(t.isfinite().all() for t in net.buffers.values())
