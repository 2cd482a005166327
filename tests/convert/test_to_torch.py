"""to_torch: the same net in torch.nn gives the same numbers, and autograd the same gradients."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from nets.commands.targets import cases
from nets.convert.to_torch import to_torch
from nets.layers.activations import ReLU, Sigmoid
from nets.layers.base import Layer
from nets.layers.containers import Residual, Sequential
from nets.layers.linear import Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.whiten import Whiten2d
from nets.training.build import LAYERS
from tests.helpers import near

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))


def agree(layer, x):
    """Forward, statistics and every gradient, in float64."""
    module = to_torch(layer)
    ours, theirs = x.clone(), x.clone().requires_grad_()
    y, saved = layer.forward(ours)
    z = module(theirs)
    near(y, z.detach(), 1e-12, "y")
    dy = torch.randn_like(y)
    dx, grads = layer.backward(saved, dy)
    z.backward(dy)
    near(dx, theirs.grad, 1e-10, "dx")
    named = {k: p for k, p in module.named_parameters() if p.requires_grad}
    assert named.keys() == layer.params.keys()
    for name, p in named.items():
        near(grads[name], p.grad, 1e-10, name, floor=1e-9)
    state = module.state_dict()
    for name, b in layer.buffers.items():
        near(b, state[name], 1e-12, name)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer(name, training):
    for case in cases(name):
        case = case.to(torch.device("cpu"), torch.float64)
        if name == "Dropout" and training:
            case.layer.p, case.layer.scale = 0.0, 1.0  # else each draws in its own way
        agree(case.layer.train(training), case.x)


@pytest.mark.parametrize("path", CONFIGS, ids=[p.stem for p in CONFIGS])
def test_every_config(path):
    (case,) = cases(str(path), batch=2)
    case = case.to(torch.device("cpu"), torch.float64)
    agree(case.layer.eval(), case.x)


def test_weights_are_clones_and_keep_their_names():
    net = Sequential(Whiten2d(3), Residual(Sequential(BatchNorm2d(24), ReLU())))
    module = to_torch(net)
    assert {k for k, p in module.named_parameters() if p.requires_grad} == net.params.keys()
    assert not module.get_parameter("0.weight").requires_grad
    assert {"1.body.0.running_mean", "1.body.0.running_var"} <= dict(module.named_buffers()).keys()
    for p in module.parameters():
        p.data.add_(1)
    assert not net.params["0.bias"].any()
    assert not hasattr(module, "train_mode") and module.training
    assert not to_torch(net.eval())[1].body[0].training


def test_what_is_shared_stays_shared():
    same, other = Linear(4, 4), Linear(4, 4)
    other.params["weight"] = same.params["weight"]
    net = Sequential(same, Sigmoid(), same, Sigmoid(), other).to(torch.float64)
    module = to_torch(net)
    assert module[0] is module[2] and module[4].weight is module[0].weight
    agree(net, torch.randn(3, 4, dtype=torch.float64))


def test_plain_modules_that_keep_channels_last():
    (case,) = cases(str(CONFIGS[0].parent / "digits.toml"), batch=2)
    case = case.to(torch.device("cpu"), torch.float32)
    module = to_torch(case.layer).to(memory_format=torch.channels_last)
    assert isinstance(module[0], nn.Conv2d) and isinstance(module[1], nn.BatchNorm2d)
    y = module[:6](case.x)
    assert y.is_contiguous(memory_format=torch.channels_last) and not y.is_contiguous()


def test_float32_weights_follow_bfloat16_pictures():
    (case,) = cases(str(CONFIGS[0].parent / "digits.toml"), batch=8)
    case = case.to(torch.device("cpu"), torch.bfloat16)
    case.layer.eval()
    module = to_torch(case.layer)
    y, z = case.layer.forward(case.x)[0], module(case.x)
    assert z.dtype == torch.bfloat16 and module[0].weight.dtype == torch.float32
    z.sum().backward()
    assert module[0].weight.grad.dtype == torch.float32
    torch.testing.assert_close(y, z.detach(), rtol=0.02, atol=0.02)


class Mine(Layer):
    def forward(self, x):
        return x, None


class Leaky(ReLU):
    """Derived from a layer with a twin, but not the same function."""

    def forward(self, x):
        return torch.where(x > 0, x, 0.1 * x), x <= 0


def test_layers_without_a_twin_are_named_all_at_once():
    net = Sequential(Mine(), Linear(2, 2), Residual(Leaky()))
    with pytest.raises(ValueError, match=r"no torch.nn twin of 0 \(Mine\), 2.body \(Leaky\)$"):
        to_torch(net)


def test_the_net_itself_is_as_it_was():
    net = Sequential(BatchNorm2d(3), ReLU())
    before = copy.deepcopy(net.buffers)
    to_torch(net)(torch.randn(4, 3, 5, 5))
    assert all(torch.equal(b, before[k]) for k, b in net.buffers.items())
