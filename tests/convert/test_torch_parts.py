"""Which modules and calls of torch have a layer: the layers' own lists, put together."""

import torch
from torch import fx, nn
from torch.nn import functional as F

from nets.convert.torch_parts import call_name, calls, inplace_calls, memory_sharing_modules, modules
from nets.layers.dropout import SameDraws
from nets.layers.registry import LAYERS, examples
from nets.layers.to_module import to_module


def test_every_listed_module_is_known_and_identity_is_nothing():
    known = modules()
    for cls in LAYERS.values():
        assert all(known[kind].__self__ is cls for kind in cls.torch_types)
    assert known[nn.Identity](nn.Identity()) is None


def test_a_subclass_of_a_known_module_is_not_known():
    """It may compute something else."""

    class MyReLU(nn.ReLU):
        pass

    assert nn.ReLU in modules() and MyReLU not in modules()


def test_every_listed_call_is_known():
    known = calls()
    assert all(known[name] is make for cls in LAYERS.values() for name, make in cls.torch_calls.items())


def test_the_calls_in_place_are_listed_calls():
    assert {"iadd", "add_", "imul", "mul_", "relu_"} <= inplace_calls() <= set(calls())
    assert all(name.endswith("_") or name.startswith("i") for name in inplace_calls())


def test_the_modules_whose_output_can_share_memory_are_listed_modules():
    sharing = memory_sharing_modules()
    assert {nn.Identity, nn.Dropout, nn.Flatten} <= sharing <= set(modules())
    shared = set()
    for cls in LAYERS.values():
        for _, layer, shape in examples(cls) if cls.torch_shares_memory else ():
            module, x = to_module(layer.eval()), torch.ones(shape)
            assert module(x).untyped_storage().data_ptr() == x.untyped_storage().data_ptr(), cls
            shared.add(type(module))
    assert sharing <= shared | {nn.Identity, SameDraws}


class Model(nn.Module):
    def forward(self, x):
        return own(torch.relu(F.relu(x).tanh() + x))


@fx.wrap
def own(x):
    return x


def test_calls_are_named_as_torch_names_them():
    names = [call_name(node) for node in fx.symbolic_trace(Model()).graph.nodes if node.op.startswith("call")]
    assert names[:-1] == ["relu", "tanh", "add", "relu"]
    assert names[-1].endswith(".own") or names[-1] == "own"
