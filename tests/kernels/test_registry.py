"""lower: which form takes which layers' place, and that the net's tensors, names and modes stay."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nets.kernels import BACKENDS, Form, forms, lower, native, running_backend
from nets.kernels.native import cpp
from nets.kernels.registry import kernels
from nets.kernels.torch_forms import (
    TorchBatchNorm2d,
    TorchConv2d,
    TorchGELU,
    TorchMaxPool2d,
    TorchReLU,
)
from nets.layers.activations import GELU, ReLU, Tanh
from nets.layers.containers import Residual, Sequential
from nets.layers.conv import Conv2d
from nets.layers.dropout import Dropout, SameDraws
from nets.layers.linear import Flatten, Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import MaxPool2d

FLOAT = torch.float32


def small_net():
    block = Residual(Sequential(Conv2d(4, 4, 3, padding=1), GELU()), Conv2d(4, 4, 1))
    return Sequential(Conv2d(3, 4, 3), BatchNorm2d(4), ReLU(), MaxPool2d(2), block, Flatten(), Linear(16, 2))


@pytest.mark.parametrize("backend", BACKENDS)
def test_parameters_and_buffers_are_the_nets_own_under_the_same_names(backend):
    net = small_net()
    fast = lower(net, backend, "cpu", FLOAT)
    for ours, theirs in ((fast.params, net.params), (fast.buffers, net.buffers)):
        assert {k: id(t) for k, t in ours.items()} == {k: id(t) for k, t in theirs.items()}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_lowered_net_gives_the_same_numbers_and_gradients(backend):
    net, x = small_net(), torch.randn(3, 3, 6, 6)
    fast = lower(net, backend, "cpu", FLOAT)
    y, saved = net.forward(x)
    dy = torch.randn_like(y)
    dx, grads = net.backward(saved, dy)
    z, saved = fast.forward(x)
    dz, same = fast.backward(saved, dy)
    assert same.keys() == grads.keys()
    for a, b in [(z, y), (dz, dx), *((same[k], grads[k]) for k in grads)]:
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_net_itself_is_unchanged():
    net = small_net()
    kinds = [type(layer) for layer in net.walk()]
    lower(net, "torch", "cpu", FLOAT)
    assert [type(layer) for layer in net.walk()] == kinds and not any(issubclass(k, Form) for k in kinds)


def test_reference_is_the_net_itself():
    net = small_net()
    assert lower(net, "reference", "cpu", FLOAT) is net


def test_layers_inside_nets_are_replaced_and_those_without_a_form_stay():
    net = small_net()
    fast = lower(net, "torch", "cpu", FLOAT)
    assert [type(leaf) for leaf in fast.leaves()] == [
        *(TorchConv2d, TorchBatchNorm2d, TorchReLU, TorchMaxPool2d),
        *(TorchConv2d, TorchGELU, TorchConv2d, Flatten, Linear),
    ]
    assert fast.leaves()[-1] is net.leaves()[-1]


@pytest.mark.parametrize("recompute", [True, False])
def test_recompute_and_modes_are_kept(recompute):
    net = Sequential(Sequential(Conv2d(3, 4, 3), GELU(), recompute=recompute), Residual(GELU()))
    net[0].training = False
    fast = lower(net, "torch", "cpu", FLOAT)
    assert fast[0].recompute == recompute and not fast.recompute
    assert fast.training and not fast[0].training and fast[1].training
    fast.eval()
    assert not any(leaf.training for leaf in net.leaves())


def test_a_subclass_keeps_its_own_backward():
    """A form stands for exactly one class: a subclass may compute something else."""

    class Leaky(GELU):
        pass

    class MyRow(Sequential):
        pass

    layer = Leaky()
    assert lower(layer, "torch", "cpu", FLOAT) is layer
    row = MyRow(GELU())
    assert lower(row, "torch", "cpu", FLOAT) is row


def test_the_preferred_backends_forms_come_first():
    assert forms("reference") == []
    assert forms("torch") == Form.FORMS["torch"]
    assert forms("native") == [*Form.FORMS["native"], *Form.FORMS["torch"]]


def test_an_unknown_backend_is_an_error():
    with pytest.raises(ValueError, match='backend is "reference", "torch" or "native", not "mine"'):
        lower(Tanh(), "mine", "cpu", FLOAT)


def test_a_form_has_the_mode_of_its_layers():
    layer = BatchNorm2d(3).eval()
    form = lower(layer, "torch", "cpu", FLOAT)
    assert not form.training
    form.train()
    assert layer.training and form.training


def test_a_form_is_printed_with_its_layers():
    assert repr(lower(GELU(), "torch", "cpu", FLOAT)) == "TorchGELU(GELU(approximate='none'))"
    assert repr(Row(ReLU(), Tanh())) == "Row(ReLU(), Tanh())"


class Row(Form):
    """Some layers as one."""


def test_a_form_of_several_layers_has_their_modules_in_a_row():
    assert Row.has_torch()
    form, x = Row(BatchNorm2d(3), GELU(), Dropout(0.3)), torch.randn(4, 3, 5, 5)
    for module, kind in ((form.to_torch(), nn.Dropout), (form.to_reference(), SameDraws)):
        assert module.state_dict().keys() - {"num_batches_tracked"} == (form.params | form.buffers).keys()
        assert dict(module.named_parameters()).keys() == form.params.keys()
        assert [type(other) for other in module.others][1] is kind
        module.eval()
        assert not module.first.training and torch.equal(module(x), F.gelu(module.first(x)))
        module.train()
        assert all(part.training is True for part in (module, module.first, *module.others))
    assert type(Row(GELU()).to_torch()) is nn.GELU


def test_a_form_is_registered_with_its_backend(monkeypatch):
    monkeypatch.setitem(Form.FORMS, "native", [])

    class Mine(Form, backend="native"):
        pass

    assert Form.FORMS["native"] == [Mine]


def test_the_kernels_of_a_net_are_named_and_counted(monkeypatch):
    monkeypatch.setitem(Form.FORMS, "native", [Row])
    monkeypatch.setattr(cpp, "build", ["conv_1"])
    assert kernels(small_net()) == "the layers' own formulas"
    fast = lower(Sequential(GELU(), ReLU(), GELU()), "torch", "cpu", FLOAT)
    assert kernels(fast) == "2 TorchGELU, 1 TorchReLU"
    assert kernels(Sequential(Row(Tanh()), *fast)) == "1 Row, 2 TorchGELU, 1 TorchReLU, conv_1"


def test_a_shared_tensor_stays_shared_in_a_lowered_net():
    conv = Conv2d(3, 3, 1)
    net = Sequential(conv, Tanh(), conv)
    fast = lower(net, "torch", "cpu", FLOAT)
    assert list(fast.params) == list(net.params) == ["0.weight", "0.bias"]
    x = torch.randn(2, 3, 4, 4)
    y, saved = net.forward(x)
    _, grads = net.backward(saved, y)
    _, same = fast.backward(fast.forward(x)[1], y)
    for name, g in grads.items():
        torch.testing.assert_close(same[name], g, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("why", ["compiler", "dtype"])
def test_a_backend_whose_kernels_cannot_be_had_is_said_once(why, monkeypatch, capsys):
    dtype = torch.float64 if why == "dtype" else FLOAT
    monkeypatch.setenv("CXX", "/no/such/compiler")
    native.library.cache_clear()
    running_backend.cache_clear()
    try:
        for _ in range(2):
            lower(small_net(), "native", "cpu", dtype)
        (line,) = capsys.readouterr().err.splitlines()
        assert running_backend("native", torch.device("cpu"), dtype) == "torch"
        assert running_backend("reference", torch.device("cpu"), dtype) == "reference"
    finally:
        native.library.cache_clear()
        running_backend.cache_clear()
    assert capsys.readouterr().err == ""
    reason = "they take float32 and bfloat16, not float64" if why == "dtype" else "/no/such/compiler"
    assert line.startswith('note: backend "torch" runs') and reason in line
