"""Nets are layers: Sequential, Residual, and one layer in two places."""

import gc
import weakref

import pytest
import torch
from torch.nn import functional as F

from nets.common.errors import BatchError, SavedError
from nets.gradcheck import check, compare
from nets.kernels import lower
from nets.layers.activations import GELU, ReLU, SiLU, Tanh
from nets.layers.base import Layer
from nets.layers.containers import Net, Residual, Sequential
from nets.layers.conv import Conv2d
from nets.layers.linear import Flatten, Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import MaxPool2d
from nets.layers.reduction import Mean, Sum
from nets.layers.reshaping import Unsqueeze
from nets.losses import CrossEntropyLoss
from nets.optim.sgd import SGD
from nets.training.step import train_step
from tests.helpers import check_layer, tensors


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


def test_walk_yields_every_layer_once():
    shared = Tanh()
    inner = Sequential(shared, ReLU())
    net = Sequential(inner, shared, inner)
    assert list(net.walk()) == [net, inner, shared, inner.children["1"]]


def test_to_takes_the_arguments_of_a_tensors_to():
    net = Sequential(Linear(2, 2), BatchNorm2d(2)).to(dtype=torch.float64)
    assert {t.dtype for t in (net.params | net.buffers).values()} == {torch.float64}


REPEATED = [
    Residual(Mean(1, True)),
    Residual(Sum(0)),
    Residual(Linear(4, 4), Linear(4, 1)),
    Residual(Linear(4, 1), Linear(4, 4)),
    Residual(Unsqueeze(1)),
]


@pytest.mark.parametrize("net", REPEATED, ids=str)
def test_a_path_that_is_repeated_gets_the_sum_of_dy_over_its_repeats(net):
    check_layer(net.to(torch.float64), torch.randn(3, 4, dtype=torch.float64))


def test_paths_whose_shapes_do_not_fit_are_refused():
    with pytest.raises(BatchError, match=r"^Residual: shapes \(2, 3\) and \(2, 4\) don't broadcast$"):
        Residual(Linear(4, 3)).forward(torch.ones(2, 4))


def test_a_residual_frees_what_was_saved_unless_it_is_kept():
    net = Residual(Sequential(Linear(3, 3)), Sequential(Tanh(), Linear(3, 3)))
    y, saved = net.forward(torch.randn(2, 3))
    dy = torch.randn_like(y)
    first = net.backward(saved, dy, keep=True)
    second = net.backward(saved, dy)
    assert saved == []
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(first[1][k], second[1][k]) for k in net.params)


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


def test_without_input_grad_dx_is_left_out_and_the_other_gradients_are_the_same():
    net = Sequential(Residual(Sequential(Conv2d(3, 4, 1)), Conv2d(3, 4, 1)), ReLU())
    x = torch.randn(2, 3, 4, 4)
    y, saved = net.forward(x)
    dx, full = net.backward(saved, torch.ones_like(y), keep=True)
    assert dx.shape == x.shape
    dx, grads = net.backward(saved, torch.ones_like(y), input_grad=False)
    assert dx is None
    half = Residual(Conv2d(3, 3, 1))  # the way around always has a gradient
    assert half.backward(half.forward(x)[1], x, input_grad=False)[0] is None
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
def test_recomputed_inputs_are_the_same_and_are_not_saved(training):
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    results = []
    for recompute in (False, True):
        net = block(recompute).train(training)
        y, saved = net.forward(x)
        size = bytes_of(saved)
        assert saved.count(None) == 3 * recompute  # GELU's x, and that of two convolutions
        twice = [net.backward(saved, torch.ones_like(y), keep=True) for _ in range(2)]
        assert saved.count(None) == 3 * recompute
        results.append((size, *net.backward(saved, torch.ones_like(y))))
        assert saved == [] and all(torch.equal(dx, results[-1][1]) for dx, _ in twice)
        assert check(net, x).ok
    (size, dx, grads), (less, dx2, grads2) = results
    assert less < 0.62 * size
    assert compare(dx2, dx).relative < 1e-13
    assert all(compare(grads2[k], g, min_scale=1.0).relative < 1e-13 for k, g in grads.items())


def test_only_layers_that_can_compute_their_output_again_have_it_dropped():
    net = Sequential(Linear(3, 3), Tanh(), ReLU(), Linear(3, 3), recompute=True)
    _, saved = net.forward(torch.randn(2, 3))
    assert None not in saved
    _, saved = Sequential(Linear(3, 3), GELU(), Linear(3, 3)).forward(torch.randn(2, 3))
    assert None not in saved  # recompute is off by default


class Asked(Layer):
    """y = 2x, and a record of what recomputing asks of it."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, x):
        return 2 * x, x

    def backward(self, saved, dy):
        assert isinstance(saved, torch.Tensor)
        return 2 * dy, {}

    def output(self, saved):
        self.asked.append("output")
        return 2 * saved

    def drop_input(self, saved):
        self.asked.append("drop_input")
        return "dropped"

    def add_input(self, saved, x):
        self.asked.append("add_input")
        assert saved == "dropped"
        return x


def test_recomputing_asks_the_layers():
    first, second, third = Asked(), Asked(), Asked()
    x, dy = torch.randn(2, 3), torch.ones(2, 3)
    net = Sequential(first, second, third, recompute=True)
    y, saved = net.forward(x)
    assert torch.equal(y, 8 * x) and saved == [x, "dropped", "dropped"]
    assert torch.equal(net.backward(saved, dy)[0], 8 * dy)
    assert first.asked == ["output"] and third.asked == ["drop_input", "add_input"]
    assert second.asked == ["drop_input", "add_input", "output"]
    plain = Sequential(Asked(), Asked())
    _, saved = plain.forward(x)
    plain.backward(saved, dy)
    assert all(layer.asked == [] for layer in plain)


@pytest.mark.parametrize("backend", ["reference", "torch", "native"])
@pytest.mark.parametrize("recompute", [True, False])
def test_recomputing_through_several_layers_keeps_every_gradient(recompute, backend):
    """An activation before a norm before a convolution: the norm's own x is dropped, and needed twice."""

    def make(recompute):
        torch.manual_seed(0)
        layers = [Conv2d(3, 8, 3, padding=1), GELU(), BatchNorm2d(8), GELU(), Conv2d(8, 4, 3, padding=1)]
        return Sequential(*layers, recompute=recompute)

    x = torch.randn(2, 3, 6, 6).contiguous(memory_format=torch.channels_last)
    plain, net = make(False), lower(make(recompute), backend, "cpu", torch.float32)
    y, saved = plain.forward(x)
    dy = torch.randn_like(y)
    dx, grads = plain.backward(saved, dy)
    z, saved = net.forward(x)
    held = [s is not None and any(t.shape == (2, 8, 6, 6) for t in tensors(s)) for s in saved]
    assert held[1] and not any(held[2:]) if recompute else all(held[1:])
    for keep in (True, False):
        again, same = net.backward(saved, dy, keep=keep)
        for a, b in [(z, y), (again, dx), *((same[k], grads[k]) for k in grads)]:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


FREED = pytest.mark.parametrize(
    "net",
    [
        Sequential(Linear(3, 3), Tanh()),
        Sequential(Tanh(), Tanh()),
        Residual(Linear(3, 3)),
        Residual(Tanh(), Linear(3, 3)),
        Sequential(GELU(), Linear(3, 3), recompute=True),
    ],
    ids=["Sequential", "without parameters", "Residual", "Residual with a shortcut", "recompute"],
)


@FREED
@pytest.mark.parametrize("input_grad", [True, False])
def test_a_second_backward_of_freed_saved_tensors_is_one_clear_error(net, input_grad):
    y, saved = net.forward(torch.randn(2, 3))
    net.backward(saved, torch.ones_like(y), input_grad=input_grad)
    with pytest.raises(SavedError) as error:
        net.backward(saved, torch.ones_like(y), input_grad=input_grad)
    assert type(net).__name__ in str(error.value) and "keep=True" in str(error.value)
    assert "\n" not in str(error.value)


@FREED
def test_with_keep_a_forward_can_serve_any_number_of_backwards(net):
    y, saved = net.forward(torch.randn(2, 3))
    dy = torch.randn_like(y)
    first = net.backward(saved, dy, keep=True)
    for keep in (True, True, False):
        dx, grads = net.backward(saved, dy, keep=keep)
        assert torch.equal(dx, first[0]) and all(torch.equal(grads[k], first[1][k]) for k in net.params)
    assert saved == []


class Counts(Tanh):
    """Counts its backwards."""

    def __init__(self):
        super().__init__()
        self.backwards = 0

    def backward(self, saved, dy):
        self.backwards += 1
        return super().backward(saved, dy)


def test_first_layers_without_trained_parameters_get_no_backward():
    first, inner, between, last = Counts(), Counts(), Counts(), Counts()
    net = Sequential(first, Sequential(inner, Linear(3, 3)), between, Linear(3, 2), last)
    y, saved = net.forward(torch.randn(4, 3))
    dy = torch.randn_like(y)
    _, full = net.backward(saved, dy, keep=True)
    assert [c.backwards for c in (first, inner, between, last)] == [1, 1, 1, 1]
    _, grads = net.backward(saved, dy, input_grad=False, keep=True)
    assert [c.backwards for c in (first, inner, between, last)] == [1, 1, 2, 2]
    assert grads.keys() == full.keys() and all(torch.equal(grads[k], full[k]) for k in full)
    frozen = frozenset({"1.1.weight", "1.1.bias"})
    _, grads = net.backward(saved, dy, input_grad=False, frozen=frozen, keep=True)
    assert [c.backwards for c in (first, inner, between, last)] == [1, 1, 2, 3]
    assert grads.keys() == {"3.weight", "3.bias"} and all(torch.equal(g, full[k]) for k, g in grads.items())


@pytest.mark.parametrize("input_grad", [True, False])
def test_frozen_parameters_get_no_gradient_and_the_others_the_same_one(input_grad):
    shared = Linear(3, 3)
    net = Sequential(shared, Tanh(), Residual(shared), Linear(3, 2))
    y, saved = net.forward(torch.randn(4, 3))
    dy = torch.randn_like(y)
    dx, full = net.backward(saved, dy, keep=True)
    for frozen in (["0.weight"], ["3.bias", "0.bias"], list(net.params)):
        found, grads = net.backward(saved, dy, input_grad=input_grad, keep=True, frozen=frozenset(frozen))
        assert grads.keys() == net.params.keys() - set(frozen)
        assert all(torch.equal(g, full[k]) for k, g in grads.items())
        assert torch.equal(found, dx) if input_grad else found is None


def test_on_grads_gets_each_layers_gradients_once_they_are_complete():
    shared = Linear(3, 3)
    net = Sequential(Linear(3, 3), shared, Tanh(), shared, Linear(3, 2))
    y, saved = net.forward(torch.randn(4, 3))
    dy = torch.randn_like(y)
    _, full = net.backward(saved, dy, keep=True)
    calls = []
    _, rest = net.backward(saved, dy, frozen=frozenset({"4.bias"}), on_grads=calls.append)
    assert rest == {}
    assert [sorted(call) for call in calls] == [["4.weight"], ["1.bias", "1.weight"], ["0.bias", "0.weight"]]
    assert all(torch.equal(g, full[k]) for call in calls for k, g in call.items())


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
