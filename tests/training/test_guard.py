"""A step that is not finite."""

import pytest
import torch

from nets.layers.base import Layer
from nets.layers.containers import Sequential
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
        message = "the loss became nan" if where == "loss" else "a gradient became infinite or NaN"
        assert message in guard.message(0)
