"""A layer or net as a torch.nn module: names, clones, sharing, modes; test_gradients.py has the numbers."""

import copy

import pytest
import torch
from torch import nn

from nets.layers.activations import ReLU, Sigmoid
from nets.layers.base import Layer
from nets.layers.containers import Residual, Sequential
from nets.layers.dropout import Dropout
from nets.layers.linear import Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.registry import LAYERS, examples
from nets.layers.to_module import ModuleBuilder, named_layers, to_module
from nets.layers.whiten import Whiten2d


@pytest.mark.parametrize("name", LAYERS)
def test_tensors_have_the_same_names_and_values_as_in_the_layer(name):
    for _, layer, _ in examples(LAYERS[name]):
        module = to_module(layer)
        trained = {k: p for k, p in module.named_parameters() if p.requires_grad}
        assert trained.keys() == layer.params.keys()
        state = module.state_dict()
        for key, t in layer.state_dict().items():
            assert torch.equal(state[key], t) and state[key].data_ptr() != t.data_ptr()


def test_weights_are_clones_and_modes_are_kept():
    net = Sequential(Whiten2d(3), Residual(Sequential(BatchNorm2d(24), ReLU())))
    module = to_module(net)
    assert {k for k, p in module.named_parameters() if p.requires_grad} == net.params.keys()
    assert not module.get_parameter("0.weight").requires_grad
    assert {"1.body.0.running_mean", "1.body.0.running_var"} <= dict(module.named_buffers()).keys()
    for p in module.parameters():
        p.data.add_(1)
    assert not net.params["0.bias"].any()
    assert module.training and not to_module(net.eval())[1].body[0].training


def test_a_layer_in_another_mode_than_its_net_keeps_it():
    net = Sequential(Dropout(0.5), Dropout(0.5))
    net[1].eval()
    module = to_module(net)
    assert module.training and module[0].training and not module[1].training


def test_shared_layers_and_tensors_stay_shared():
    same, other = Linear(4, 4), Linear(4, 4)
    other.params["weight"] = same.params["weight"]
    module = to_module(Sequential(same, Sigmoid(), same, Sigmoid(), other))
    assert module[0] is module[2] and module[4].weight is module[0].weight


class Mine(Layer):
    def forward(self, x):
        return x, None


class Leaky(ReLU):
    """Derived from a layer that torch has, but not the same function."""

    def forward(self, x):
        return torch.where(x > 0, x, 0.1 * x), x <= 0


def test_layers_without_a_module_are_named_all_at_once():
    net = Sequential(Mine(), Linear(2, 2), Residual(Leaky()))
    with pytest.raises(ValueError, match=r"no torch.nn module for 0 \(Mine\), 2.body \(Leaky\)$"):
        to_module(net)
    with pytest.raises(ValueError, match=r"no torch.nn module for Leaky$"):
        to_module(Leaky())


def test_the_net_and_the_random_numbers_are_as_they_were():
    net = Sequential(BatchNorm2d(3), ReLU(), Dropout(0.5))
    before, state = copy.deepcopy(net.buffers), torch.get_rng_state()
    module = to_module(net)
    assert torch.equal(torch.get_rng_state(), state)
    module(torch.randn(4, 3, 5, 5))
    assert all(torch.equal(b, before[k]) for k, b in net.buffers.items())


def test_a_builder_remembers_which_tensor_belongs_to_which():
    net, builder = Sequential(BatchNorm2d(3), ReLU()), ModuleBuilder()
    module = builder.build(net)
    assert builder.modules[id(net)] is module and builder.modules[id(net[0])] is module[0]
    assert builder.tensors[id(net.params["0.weight"])] is module[0].weight
    assert builder.tensors[id(net.buffers["0.running_mean"])] is module[0].running_mean


def test_named_layers_gives_inner_layers_first_and_each_once():
    shared = ReLU()
    net = Sequential(shared, Residual(Sequential(shared, Linear(2, 2))))
    names = [name for name, _ in named_layers(net)]
    assert names == [*("0 (ReLU)", "1.body.1 (Linear)", "1.body (Sequential)", "1 (Residual)", "Sequential")]
    assert [name for name, _ in named_layers(ReLU())] == ["ReLU"]
    assert [name for name, _ in named_layers(Sequential(shared), "a")] == ["a.0 (ReLU)", "a (Sequential)"]


def test_modules_are_plain_torch_modules():
    module = to_module(Sequential(Linear(2, 2), ReLU()))
    assert isinstance(module, nn.Sequential) and isinstance(module[0], nn.Linear)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layers_own_module_has_its_parameters(name):
    """to_torch by itself: nothing is added to the module afterwards."""
    for _, layer, _ in examples(LAYERS[name]):
        if layer.is_leaf():
            module = layer.to_torch()
            assert {k: p.shape for k, p in module.named_parameters()}.items() >= {
                (k, t.shape) for k, t in layer.params.items()
            }
            assert ("bias" in layer.params) == (getattr(module, "bias", None) is not None)


@pytest.mark.parametrize("name", LAYERS)
def test_weights_in_float32_follow_a_batch_in_bfloat16(name):
    for _, layer, shape in examples(LAYERS[name]):
        layer.eval()
        x = torch.randn(shape).bfloat16()
        y = to_module(layer)(x)
        assert y.dtype == torch.bfloat16
        torch.testing.assert_close(y.detach(), layer(x), rtol=0.02, atol=0.02)


class Unnamed(nn.Module):
    named_tensors = False


def test_a_module_may_take_its_tensors_without_names():
    layer, builder = BatchNorm2d(3), ModuleBuilder(lambda layer, **_: Unnamed())
    module = builder.build(layer)
    assert not module.state_dict() and set(vars(module)) == set(vars(Unnamed()))
    assert builder.tensors.keys() == {id(t) for t in (layer.params | layer.buffers).values()}
