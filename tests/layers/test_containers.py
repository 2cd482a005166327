"""Nets are layers: Sequential, Residual, and one layer in two places."""

import gc
import weakref

import pytest
import torch
from torch.nn import functional as F

from nets.gradcheck import check, compare
from nets.layers.activations import GELU, ReLU, SiLU, Tanh
from nets.layers.containers import Residual, Sequential
from nets.layers.conv import Conv2d
from nets.layers.linear import Flatten, Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import MaxPool2d
from nets.losses import CrossEntropyLoss
from nets.optim.sgd import SGD
from nets.training.step import train_step


def small_net():
    conv, bn = Conv2d(3, 4, 3, padding=1, bias=False), BatchNorm2d(4)
    around = Conv2d(4, 6, 1, stride=2)
    block = Residual(Sequential(Conv2d(4, 6, 3, stride=2, padding=1), ReLU()), around)
    inner = Residual(Sequential(Conv2d(6, 6, 3, padding=1), Tanh()))
    return Sequential(conv, bn, ReLU(), MaxPool2d(2), block, inner, Flatten(), Linear(54, 5)).to(
        torch.float64
    )


@pytest.mark.parametrize("training", [True, False])
def test_a_whole_net(training):
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


def test_one_layer_in_two_places_gets_the_sum():
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


def test_one_tensor_in_two_layers_stays_one():
    a, b = Linear(4, 4), Linear(4, 4)
    b.params["weight"] = a.params["weight"]
    net = Sequential(a, Tanh(), b)
    net.to(torch.float64)
    assert a.params["weight"] is b.params["weight"]
    assert list(net.params) == ["0.weight", "0.bias", "2.bias"]
    assert check(net, torch.randn(3, 4, dtype=torch.float64)).ok


def test_backward_frees_what_was_saved_as_it_goes():
    class Probe(Tanh):
        """Notes, when its backward runs, which later layer's saved tensor still lives."""

        def __init__(self):
            super().__init__()
            self.later, self.alive = [], []

        def backward(self, saved, dy):
            gc.collect()
            self.alive += [r() is not None for r in self.later]
            return super().backward(saved, dy)

    first, last = Probe(), Tanh()
    net = Sequential(first, last)
    y, saved = net.forward(torch.randn(3, 4))
    first.later.append(weakref.ref(saved[1]))
    dy = torch.ones_like(y)
    del y
    net.backward(saved, dy, keep=True)
    net.backward(saved, dy)
    assert first.alive == [True, False]
    assert saved == []


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


def test_walk_meets_every_layer_once():
    shared = Tanh()
    inner = Sequential(shared, ReLU())
    net = Sequential(inner, shared, inner)
    assert list(net.walk()) == [net, inner, shared, inner.children["1"]]


def test_to_takes_what_a_tensors_to_takes():
    net = Sequential(Linear(2, 2), BatchNorm2d(2)).to(dtype=torch.float64)
    assert {t.dtype for t in (net.params | net.buffers).values()} == {torch.float64}


def test_a_residual_frees_what_was_saved_unless_it_is_kept():
    net = Residual(Sequential(Linear(3, 3)), Sequential(Tanh(), Linear(3, 3)))
    y, saved = net.forward(torch.randn(2, 3))
    dy = torch.randn_like(y)
    first = net.backward(saved, dy, keep=True)
    second = net.backward(saved, dy)
    assert saved == []
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(first[1][k], second[1][k]) for k in net.params)


def test_a_first_layer_that_stands_again_later_still_trains():
    shared = Linear(3, 3)
    for net in (Sequential(shared, Tanh(), shared), Sequential(Sequential(shared), Tanh(), shared)):
        x, target = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
        net.input_grad = True
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


def test_input_gradient_is_left_out_at_the_layers_that_see_the_data():
    net = Sequential(Residual(Sequential(Conv2d(3, 4, 1)), Conv2d(3, 4, 1)), ReLU())
    x = torch.randn(2, 3, 4, 4)
    y, saved = net.forward(x)
    dx, full = net.backward(saved, torch.ones_like(y), keep=True)
    assert net.input_grad and dx.shape == x.shape
    net.input_grad = False
    dx, grads = net.backward(saved, torch.ones_like(y))
    assert dx is None
    half = Residual(Conv2d(3, 3, 1))  # the way around always has a gradient
    half.input_grad = False
    assert half.backward(half.forward(x)[1], x)[0] is None
    assert all(torch.equal(grads[k], full[k]) for k in full)


def bytes_of(saved, seen=None):
    """Bytes of all tensors in what was saved, each memory once."""
    seen = {} if seen is None else seen
    for s in saved if isinstance(saved, (list, tuple)) else [saved]:
        if isinstance(s, torch.Tensor):
            seen[s.untyped_storage().data_ptr()] = s.untyped_storage().nbytes()
        elif isinstance(s, (list, tuple)):
            bytes_of(s, seen)
    return sum(seen.values())


def block(recompute):
    torch.manual_seed(0)
    norm = BatchNorm2d(8, eps=0.3)
    for t in norm.params.values():
        t.uniform_(0.5, 1.5)
    layers = [Conv2d(3, 8, 3, padding=1), norm, GELU(), Conv2d(8, 8, 3), SiLU(), Conv2d(8, 2, 3)]
    return Sequential(*layers, recompute=recompute).to(torch.float64)


@pytest.mark.parametrize("training", [True, False])
def test_what_is_computed_again_is_the_same_and_not_saved(training):
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    results = []
    for recompute in (False, True):
        net = block(recompute).train(training)
        y, saved = net.forward(x)
        size = bytes_of(saved)
        twice = [net.backward(saved, torch.ones_like(y), keep=True) for _ in range(2)]
        assert saved.count("again") == 3 * recompute  # GELU's x, and that of two convolutions
        results.append((size, *net.backward(saved, torch.ones_like(y))))
        assert saved == [] and all(torch.equal(dx, results[-1][1]) for dx, _ in twice)
        assert check(net, x).ok
    (size, dx, grads), (less, dx2, grads2) = results
    assert less < 0.62 * size
    assert compare(dx2, dx).relative < 1e-13
    assert all(compare(grads2[k], g, floor=1.0).relative < 1e-13 for k, g in grads.items())


def test_a_layer_that_says_nothing_of_its_output_is_saved_after():
    net = Sequential(Linear(3, 3), Tanh(), ReLU(), Linear(3, 3), recompute=True)
    _, saved = net.forward(torch.randn(2, 3))
    assert "again" not in saved
    _, saved = Sequential(Linear(3, 3), GELU(), Linear(3, 3)).forward(torch.randn(2, 3))
    assert "again" not in saved  # only where it is asked for
    with pytest.raises(NotImplementedError, match="ReLU doesn't compute its output twice"):
        ReLU().output(None)
