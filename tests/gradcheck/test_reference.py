"""The reference: autograd of a layer's torch.nn module, or of its own forward."""

import pytest
import torch
from torch.nn import functional as F

from nets.gradcheck import check
from nets.gradcheck.reference import differentiate, is_own
from nets.layers.activations import ReLU, Tanh
from nets.layers.base import Layer
from nets.layers.containers import Net, Sequential
from nets.layers.dropout import Dropout
from nets.layers.linear import Linear
from nets.layers.norm import BatchNorm2d


class Leaky(ReLU):
    """Derived from ReLU, with a forward of its own."""

    def forward(self, x):
        return torch.where(x > 0, x, 0.1 * x), x <= 0

    def backward(self, saved, dy):
        return torch.where(saved, 0.1 * dy, dy), {}


class HalfLeaky(Leaky):
    """Its forward leaks, its backward is ReLU's."""

    backward = ReLU.backward


def test_a_subclass_with_its_own_forward_has_no_reference_of_its_parent():
    x = torch.randn(4, 5, dtype=torch.float64)
    assert is_own(Leaky()) and not is_own(ReLU())
    assert check(Leaky(), x).ok
    assert check(HalfLeaky(), x).first_bad == "HalfLeaky, input"
    assert check(Sequential(Linear(5, 5), Leaky()).to(torch.float64), x).ok


def test_gradients_and_statistics_are_those_of_torch():
    norm, x = BatchNorm2d(3, momentum=0.3).to(torch.float64), torch.randn(4, 3, 5, 5, dtype=torch.float64)
    dy, leaf = torch.randn_like(x), x.clone().requires_grad_()
    params = {k: t.clone().requires_grad_() for k, t in norm.params.items()}
    mean, var = (t.clone() for t in norm.buffers.values())
    y = F.batch_norm(leaf, mean, var, params["weight"], params["bias"], True, 0.3)
    answer = differentiate(norm, x, dy)
    wanted = torch.autograd.grad(y, [leaf, *params.values()], dy)
    for a, b in zip((answer.dx, *answer.grads.values()), wanted):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(answer.y, y.detach())
    assert torch.equal(answer.buffers["running_mean"], mean) and torch.equal(
        answer.buffers["running_var"], var
    )
    assert not norm.buffers["running_mean"].any()  # the layer itself is unchanged


def test_an_objective_takes_the_place_of_dy():
    x = torch.randn(3, 4, dtype=torch.float64)
    layer = Tanh()
    answer = differentiate(layer, x, objective=lambda y: (3 * y).sum())
    torch.testing.assert_close(answer.dx, differentiate(layer, x, torch.full_like(x, 3.0)).dx)


def test_each_layer_inside_has_its_own_dx():
    shared = Tanh()
    net = Sequential(shared, Linear(4, 4), shared).to(torch.float64)
    answer = differentiate(net, torch.randn(3, 4, dtype=torch.float64), torch.ones(3, 4, dtype=torch.float64))
    assert [type(layer) for layer, _ in answer.inputs] == [Tanh, Linear, Tanh]
    assert torch.equal(answer.inputs[0][1], answer.dx)
    assert not torch.equal(answer.inputs[2][1], answer.dx)


def test_the_reference_draws_the_layers_own_random_numbers():
    layer, x = Dropout(0.5), torch.randn(10, 10)
    torch.manual_seed(3)
    y, _ = layer.forward(x)
    torch.manual_seed(3)
    assert torch.equal(differentiate(layer, x, x).y, y)


class Own(Layer):
    """y = a·x, which torch doesn't have, with a buffer that its forward writes to."""

    def __init__(self):
        super().__init__()
        self.params["a"] = torch.tensor([2.0], dtype=torch.float64)
        self.buffers["n"] = torch.zeros(1, dtype=torch.float64)

    def forward(self, x):
        self.buffers["n"] += 1
        return self.params["a"] * x, x


class OwnNet(Net):
    """A net with a forward of its own."""

    def forward(self, x):
        return self.children["a"].forward(x)[0] * 3, None


@pytest.mark.parametrize(
    "make, factor", [(Own, 1), (lambda: OwnNet(a=Own()), 3), (lambda: Sequential(Own()), 1)]
)
def test_a_layer_that_torch_lacks_is_its_own_reference(make, factor):
    layer, x = make(), torch.randn(3, 2, dtype=torch.float64)
    answer = differentiate(layer, x, torch.ones_like(x))
    (gradient,) = answer.grads.values()
    assert torch.equal(answer.y, 2 * factor * x) and torch.equal(answer.dx, torch.full_like(x, 2 * factor))
    torch.testing.assert_close(gradient, factor * x.sum().reshape(1))
    assert [b.item() for b in answer.buffers.values()] == [1] and not any(
        b.any() for b in layer.buffers.values()
    )


def test_an_unused_parameter_has_a_gradient_of_zero():
    class Unused(Own):
        def forward(self, x):
            return 2 * x, None

    x = torch.ones(2, dtype=torch.float64)
    assert differentiate(Unused(), x, x).grads["a"].tolist() == [0.0]
