"""What a net's backward computes and keeps: freed tensors, frozen parameters, dx that is not needed."""

import gc
import weakref

import pytest
import torch

from nets.common.errors import SavedError
from nets.layers.activations import GELU, ReLU, Tanh
from nets.layers.containers import Residual, Sequential
from nets.layers.conv import Conv2d
from nets.layers.linear import Linear


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


def test_a_residual_frees_what_was_saved_unless_it_is_kept():
    net = Residual(Sequential(Linear(3, 3)), Sequential(Tanh(), Linear(3, 3)))
    y, saved = net.forward(torch.randn(2, 3))
    dy = torch.randn_like(y)
    first = net.backward(saved, dy, keep=True)
    second = net.backward(saved, dy)
    assert saved == []
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(first[1][k], second[1][k]) for k in net.params)


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
