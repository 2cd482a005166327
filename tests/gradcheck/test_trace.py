"""A trace: what every layer of a net was given and what it gave."""

import torch

from nets.gradcheck.trace import Trace
from nets.layers.activations import Tanh
from nets.layers.containers import Residual, Sequential
from nets.layers.linear import Linear
from nets.layers.norm import BatchNorm2d


def test_trace_lists_calls_in_backward_order_with_inputs_and_outputs():
    net, x = Sequential(Linear(3, 4), Tanh(), Linear(4, 2)), torch.randn(5, 3)
    with Trace(net) as trace:
        y, saved = net.forward(x)
        dx, grads = net.backward(saved, torch.ones_like(y))
    names = ["2 (Linear)", "1 (Tanh)", "0 (Linear)", "Sequential"]
    assert [call.name for call in trace.calls] == names
    last, middle, first, root = trace.calls
    assert first.x is x is root.x and root.y is y and first.dx is dx is root.dx
    assert middle.x is first.y and last.x is middle.y and last.dx is middle.dy
    assert torch.equal(first.grads["weight"], grads["0.weight"])


def test_a_layer_used_twice_is_called_twice():
    shared = Tanh()
    net = Sequential(shared, Residual(shared))
    with Trace(net) as trace:
        y, saved = net.forward(torch.randn(2, 3))
        net.backward(saved, y)
    assert [type(call.layer).__name__ for call in trace.calls] == ["Tanh", "Residual", "Tanh", "Sequential"]


def test_statistics_before_and_after_the_forward_are_kept():
    norm = BatchNorm2d(2)
    with Trace(norm) as trace:
        y, saved = norm.forward(torch.randn(3, 2, 4, 4) + 1)
        norm.backward(saved, y)
    before, after = trace.calls[0].buffers
    assert not before["running_mean"].any() and torch.equal(
        after["running_mean"], norm.buffers["running_mean"]
    )


def test_the_layers_methods_are_their_own_again_afterwards():
    layer = Tanh()
    layer.backward = own = lambda saved, dy: (dy, {})
    net = Sequential(layer, Tanh())
    with Trace(net):
        assert layer.backward is not own
    assert vars(layer)["backward"] is own and "forward" not in vars(layer)
    assert not {"forward", "backward"} & vars(net[1]).keys() | vars(net).keys() & {"forward", "backward"}


def test_options_of_backward_pass_through():
    net = Sequential(Linear(3, 3), Tanh())
    with Trace(net):
        y, saved = net.forward(torch.randn(2, 3))
        assert net.backward(saved, y, input_grad=False)[0] is None
