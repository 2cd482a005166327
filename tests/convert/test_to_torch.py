"""to_torch: the same net in torch.nn gives the same numbers, and autograd the same gradients."""

from pathlib import Path

import pytest
import torch
from torch import nn

from nets.commands.targets import cases
from nets.convert.from_torch import from_torch
from nets.convert.to_torch import to_torch, torch_state
from nets.layers.activations import Sigmoid
from nets.layers.containers import Sequential
from nets.layers.linear import Linear
from nets.layers.registry import LAYERS
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
def test_every_layer_agrees_with_its_module(name, training):
    for case in cases(name):
        case = case.to(torch.device("cpu"), torch.float64)
        if name == "Dropout" and training:
            case.layer.p, case.layer.scale = 0.0, 1.0  # else each draws in its own way
        if name == "StochasticDepth" and training:
            case.layer.p = 0.0
        agree(case.layer.train(training), case.x)


@pytest.mark.parametrize("path", CONFIGS, ids=[p.stem for p in CONFIGS])
def test_every_config_agrees_with_its_module(path):
    (case,) = cases(str(path), batch=2)
    case = case.to(torch.device("cpu"), torch.float64)
    agree(case.layer.eval(), case.x)


def test_shared_layers_and_tensors_get_the_same_gradients():
    same, other = Linear(4, 4), Linear(4, 4)
    other.params["weight"] = same.params["weight"]
    net = Sequential(same, Sigmoid(), same, Sigmoid(), other).to(torch.float64)
    module = to_torch(net)
    assert module[0] is module[2] and module[4].weight is module[0].weight
    agree(net, torch.randn(3, 4, dtype=torch.float64))


def test_modules_are_plain_and_keep_channels_last():
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


def test_torch_state_has_the_names_of_the_module_that_a_net_came_from():
    module = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 4)))
    net = from_torch(module)
    for t in net.params.values():
        t.add_(1)
    state = torch_state(net)
    assert state.keys() == module.state_dict().keys()
    module.load_state_dict(state)
    x = torch.randn(2, 3)
    assert torch.equal(module(x), net(x))


def test_torch_state_of_a_net_that_torch_did_not_make_is_refused():
    with pytest.raises(ValueError, match="torch_state takes a net that from_torch made"):
        torch_state(Sequential(Linear(2, 2)))
