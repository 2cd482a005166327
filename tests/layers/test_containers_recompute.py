"""Sequential with recompute=True: inputs are dropped and computed again."""

import pytest
import torch

from nets.gradcheck import check, compare
from nets.kernels import lower
from nets.layers.activations import GELU, ReLU, SiLU, Tanh
from nets.layers.base import Layer
from nets.layers.containers import Sequential
from nets.layers.conv import Conv2d
from nets.layers.linear import Linear
from nets.layers.norm import BatchNorm2d
from tests.helpers import tensors


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
