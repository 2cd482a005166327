"""Nets are layers: Sequential, Residual, and one layer in two places."""

import pytest
import torch
from torch.nn import functional as F

from nets.common.errors import BatchError
from nets.gradcheck import check, compare
from nets.kernels import lower
from nets.layers.activations import GELU, ReLU, Tanh
from nets.layers.containers import Net, Residual, Sequential
from nets.layers.conv import Conv2d
from nets.layers.linear import Flatten, Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.parameter import Parameter
from nets.layers.pool import MaxPool2d
from nets.layers.reduction import Mean, Sum
from nets.layers.reshaping import Unsqueeze
from nets.losses import CrossEntropyLoss
from nets.optim.sgd import SGD
from nets.training.step import train_step
from tests.helpers import check_layer


def small_net():
    conv, bn = Conv2d(3, 4, 3, padding=1, bias=False), BatchNorm2d(4)
    around = Conv2d(4, 6, 1, stride=2)
    block = Residual(Sequential(Conv2d(4, 6, 3, stride=2, padding=1), ReLU()), around)
    inner = Residual(Sequential(Conv2d(6, 6, 3, padding=1), Tanh()))
    return Sequential(conv, bn, ReLU(), MaxPool2d(2), block, inner, Flatten(), Linear(54, 5)).to(
        torch.float64
    )


@pytest.mark.parametrize("training", [True, False])
def test_a_whole_net_agrees_with_autograd(training):
    net, x = small_net().train(training), torch.randn(3, 3, 11, 12, dtype=torch.float64)
    p = {k: v.clone().requires_grad_() for k, v in net.params.items()}
    leaf = x.clone().requires_grad_()
    b = {k: v.clone() for k, v in net.buffers.items()}

    h = F.conv2d(leaf, p["0.weight"], padding=1)
    h = F.batch_norm(h, b["1.running_mean"], b["1.running_var"], p["1.weight"], p["1.bias"], training)
    h = F.max_pool2d(F.relu(h), 2)
    body = F.relu(F.conv2d(h, p["4.body.0.weight"], p["4.body.0.bias"], 2, 1))
    h = body + F.conv2d(h, p["4.shortcut.weight"], p["4.shortcut.bias"], 2)
    h = h + torch.tanh(F.conv2d(h, p["5.body.0.weight"], p["5.body.0.bias"], padding=1))
    want = F.linear(h.flatten(1), p["7.weight"], p["7.bias"])

    y, saved = net.forward(x)
    assert compare(y, want)[1] < 1e-12
    dy = torch.randn_like(y)
    oracle = torch.autograd.grad(want, [leaf, *p.values()], dy)
    first = net.backward(saved, dy, keep=True)
    dx, grads = net.backward(saved, dy)
    assert grads.keys() == p.keys() == first[1].keys()
    for name, a, o in zip(["x", *p], [dx, *(grads[k] for k in p)], oracle):
        assert compare(a, o)[1] < 1e-10, name
    assert torch.equal(dx, first[0]) and all(torch.equal(grads[k], first[1][k]) for k in p)
    for name, t in net.buffers.items():
        assert compare(t, b[name])[1] < 1e-12, name


def test_a_layer_used_twice_gets_the_sum_of_its_gradients():
    shared = Linear(4, 4)
    net = Sequential(shared, Tanh(), Residual(Sequential(shared, Tanh())), shared).to(torch.float64)
    assert list(net.params) == ["0.weight", "0.bias"]
    x = torch.randn(3, 4, dtype=torch.float64)
    w, b = (net.params[k].clone().requires_grad_() for k in net.params)
    h = torch.tanh(F.linear(x, w, b))
    want = F.linear(h + torch.tanh(F.linear(h, w, b)), w, b)
    y, saved = net.forward(x)
    dy = torch.randn_like(y)
    _, grads = net.backward(saved, dy)
    assert compare(y, want)[1] < 1e-12
    for a, o in zip((grads["0.weight"], grads["0.bias"]), torch.autograd.grad(want, [w, b], dy)):
        assert compare(a, o)[1] < 1e-10
    assert check(net, x).ok


def test_a_tensor_shared_by_two_layers_stays_shared_and_is_listed_once():
    a, b = Linear(4, 4), Linear(4, 4)
    b.params["weight"] = a.params["weight"]
    net = Sequential(a, Tanh(), b)
    net.to(torch.float64)
    assert a.params["weight"] is b.params["weight"]
    assert list(net.params) == ["0.weight", "0.bias", "2.bias"]
    assert check(net, torch.randn(3, 4, dtype=torch.float64)).ok


def test_neither_forward_nor_backward_writes_to_the_net():
    net = small_net().eval()
    before = {k: v.clone() for k, v in (net.params | net.buffers).items()}
    state = [{k: id(v) for k, v in vars(layer).items()} for layer in net.walk()]
    y, saved = net.forward(torch.randn(2, 3, 11, 12, dtype=torch.float64))
    net.backward(saved, torch.ones_like(y))
    assert state == [{k: id(v) for k, v in vars(layer).items()} for layer in net.walk()]
    assert all(torch.equal(v, before[k]) for k, v in (net.params | net.buffers).items())


def test_train_and_eval_reach_every_layer():
    net = small_net().eval()
    assert not any(layer.training for layer in net.walk())
    assert all(layer.training for layer in net.train().walk())
    assert Sequential(Tanh()).training is True


def test_walk_yields_every_layer_once():
    shared = Tanh()
    inner = Sequential(shared, ReLU())
    net = Sequential(inner, shared, inner)
    assert list(net.walk()) == [net, inner, shared, inner.children["1"]]


def test_to_takes_the_arguments_of_a_tensors_to():
    net = Sequential(Linear(2, 2), BatchNorm2d(2)).to(dtype=torch.float64)
    assert {t.dtype for t in (net.params | net.buffers).values()} == {torch.float64}
    constant = Parameter((2,), trained=False)
    constant.buffers["weight"] = torch.tensor([3, 4])
    assert torch.equal(constant.to(torch.float64).buffers["weight"], torch.tensor([3, 4]))
    moved = constant.to("meta", torch.float64).buffers["weight"]
    assert moved.dtype == torch.int64 and moved.device.type == "meta"


REPEATED = {
    "mean": Residual(Mean(1, True)),
    "sum": Residual(Sum(0)),
    "narrow shortcut": Residual(Linear(4, 4), Linear(4, 1)),
    "narrow body": Residual(Linear(4, 1), Linear(4, 4)),
    "new axis": Residual(Unsqueeze(1)),
}


@pytest.mark.parametrize("net", REPEATED.values(), ids=REPEATED)
def test_a_path_that_is_repeated_gets_the_sum_of_dy_over_its_repeats(net):
    check_layer(net.to(torch.float64), torch.randn(3, 4, dtype=torch.float64))


def test_paths_whose_shapes_do_not_fit_are_refused():
    with pytest.raises(BatchError, match=r"^Residual: shapes \(2, 3\) and \(2, 4\) don't broadcast$"):
        Residual(Linear(4, 3)).forward(torch.ones(2, 4))


def test_a_first_layer_that_is_used_again_later_still_trains():
    shared = Linear(3, 3)
    for net in (Sequential(shared, Tanh(), shared), Sequential(Sequential(shared), Tanh(), shared)):
        x, target = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
        z, saved = net.forward(x)
        loss = CrossEntropyLoss()
        _, grads = net.backward(saved, loss(z, target)[1])
        before = {k: v.clone() for k, v in net.params.items()}
        train_step(net, loss, SGD(net.params, 0.1))(x, target, 1.0)
        for k, w in net.params.items():
            torch.testing.assert_close(w, before[k] - 0.1 * grads[k])


def test_a_net_needs_a_layer():
    with pytest.raises(ValueError, match="needs a layer"):
        Sequential()


def everything_in(net):
    """What a net is made of: each layer's attributes and tensors, by identity, and the values."""
    ids = [(type(layer), {k: id(v) for k, v in vars(layer).items()}) for layer in net.walk()]
    return ids, {k: t.clone() for k, t in (net.params | net.buffers).items()}


@pytest.mark.parametrize("backend", ["reference", "torch", "native"])
def test_building_a_step_and_lowering_leave_the_users_net_as_it_was(backend):
    net = Sequential(
        Conv2d(3, 4, 3, padding=1), MaxPool2d(2), BatchNorm2d(4), GELU(), Flatten(), Linear(16, 3)
    )
    ids, values = everything_in(net)
    lowered = lower(net, backend, "cpu", torch.float32)
    train_step(lowered, CrossEntropyLoss(), SGD(net.params, 0.1, 0.9))
    now, tensors = everything_in(net)
    assert ids == now and all(torch.equal(t, values[k]) for k, t in tensors.items())
    x = torch.randn(2, 3, 4, 4)
    y, saved = net.forward(x)
    dx, grads = net.backward(saved, torch.ones_like(y))
    assert dx.shape == x.shape and grads.keys() == net.params.keys()


@pytest.mark.parametrize("backend", ["reference", "torch", "native"])
def test_a_step_writes_to_nothing_but_weights_and_statistics(backend):
    net = Sequential(Conv2d(3, 4, 3, padding=1), BatchNorm2d(4), GELU(), Flatten(), Linear(64, 3))
    ids, _ = everything_in(net)
    step = train_step(lower(net, backend, "cpu", torch.float32), CrossEntropyLoss(), SGD(net.params, 0.1))
    step(torch.randn(2, 3, 4, 4), torch.tensor([0, 1]), 1.0, frozen=frozenset({"0.weight"}))
    assert everything_in(net)[0] == ids


def test_a_net_of_ones_own_needs_a_backward():
    with pytest.raises(NotImplementedError, match="Net has no backward"):
        Net(tanh=Tanh()).backward([], torch.ones(2))


def test_children_must_be_layers():
    with pytest.raises(TypeError, match="Sequential: 1 is 3, not a Layer"):
        Sequential(Tanh(), 3)


def test_a_sequential_is_a_row_of_layers():
    layers = [Tanh(), ReLU(), Linear(2, 2)]
    net = Sequential(*layers)
    assert len(net) == 3 and list(net) == layers and net[0] is layers[0] and net[-1] is layers[2]
