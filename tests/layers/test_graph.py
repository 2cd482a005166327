"""Graph: values by name, several inputs and outputs, and memory that is freed early."""

import gc
import weakref

import pytest
import torch
from torch import nn

from nets.common.errors import BatchError, SavedError
from nets.convert.from_torch import from_torch
from nets.convert.to_torch import to_torch
from nets.gradcheck import check
from nets.kernels import lower
from nets.layers.activations import Scale, Sigmoid, Tanh
from nets.layers.arithmetic import Add, Mul
from nets.layers.base import Layer
from nets.layers.containers import Residual, Sequential
from nets.layers.conv import Conv2d
from nets.layers.graph import Graph
from nets.layers.joining import Cat
from nets.layers.linear import Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import GlobalAvgPool
from nets.losses import CrossEntropyLoss
from nets.optim import SGD
from nets.training.step import train_step
from tests.helpers import near


def tangled():
    """Values used once, twice and three times, and a layer in two places."""
    same = Linear(4, 4)
    return Graph(
        {
            "a": (same, "x"),
            "b": (Tanh(), "a"),
            "c": (Mul(), "a", "b"),
            "d": (same, "c"),
            "e": (Cat(1), "d", "a", "x"),
            "y": (Linear(12, 3), "e"),
        }
    ).to(torch.float64)


def by_autograd(net, x, dy):
    """(y, dx, grads) of the same net in torch."""
    module, x = to_torch(net), x.clone().requires_grad_()
    y = module(x)
    params = {k: p for k, p in module.named_parameters() if p.requires_grad}
    dx, *grads = torch.autograd.grad(y, [x, *params.values()], dy)
    return y.detach(), dx, dict(zip(params, grads))


def test_a_value_that_is_used_in_several_places_has_the_sum_of_their_gradients():
    net, x = tangled(), torch.randn(5, 4, dtype=torch.float64)
    y, saved = net.forward(x)
    dy = torch.randn_like(y)
    dx, grads = net.backward(saved, dy)
    z, wanted_dx, wanted = by_autograd(net, x, dy)
    near(y, z, 1e-12, "y")
    near(dx, wanted_dx, 1e-12, "dx")
    assert grads.keys() == wanted.keys() == {"a.weight", "a.bias", "y.weight", "y.bias"}
    for name, g in grads.items():
        near(g, wanted[name], 1e-12, name)
    assert check(net, x).ok


def test_frozen_parameters_and_values_without_a_trained_layer_get_no_gradient():
    net, x = tangled(), torch.randn(5, 4, dtype=torch.float64)
    y, saved = net.forward(x)
    dy = torch.randn_like(y)
    dx, grads = net.backward(saved, dy, keep=True)
    frozen = frozenset(("a.weight", "a.bias"))
    none, left = net.backward(saved, dy, input_grad=False, frozen=frozen, keep=True)
    assert none is None and left.keys() == {"y.weight", "y.bias"}
    assert all(torch.equal(g, grads[k]) for k, g in left.items())
    again, left = net.backward(saved, dy, frozen=frozenset(["y.bias"]))
    assert torch.equal(again, dx) and left.keys() == {"a.weight", "a.bias", "y.weight"}


def test_gradients_are_handed_over_once_when_they_are_complete():
    net, x = tangled(), torch.randn(5, 4, dtype=torch.float64)
    y, saved = net.forward(x)
    dy, handed = torch.randn_like(y), []
    dx, grads = net.backward(saved, dy, keep=True)
    _, left = net.backward(saved, dy, on_grads=lambda new: handed.append(dict(new)))
    assert left == {} and [set(new) for new in handed] == [{"y.weight", "y.bias"}, {"a.weight", "a.bias"}]
    assert all(torch.equal(g, grads[k]) for new in handed for k, g in new.items())


def test_a_second_backward_needs_keep():
    net = tangled()
    y, saved = net.forward(torch.randn(2, 4, dtype=torch.float64))
    first = net.backward(saved, y, keep=True)
    second = net.backward(saved, y)
    assert all(torch.equal(first[1][k], g) for k, g in second[1].items())
    with pytest.raises(SavedError, match="Graph: an earlier backward has freed"):
        net.backward(saved, y)


class Spied(Linear):
    """Notes whether its dx was wanted."""

    def backward(self, saved, dy, input_grad=True):
        self.wanted = input_grad
        return super().backward(saved, dy, input_grad)


def test_only_gradients_that_lead_to_a_trained_parameter_are_computed():
    first, second = Spied(4, 4), Spied(4, 4)
    net = Graph({"a": (first, "x"), "b": (Tanh(), "x"), "c": (Mul(), "a", "b"), "y": (second, "c")})
    y, saved = net.forward(torch.randn(3, 4))
    dx, grads = net.backward(saved, torch.ones_like(y), input_grad=False)
    assert dx is None and grads.keys() == net.params.keys() and second.wanted and not first.wanted


def test_a_gradient_for_each_input_is_demanded():
    class Half(Mul):
        def backward(self, saved, dy):
            return (dy,), {}

    net = Graph({"a": (Linear(4, 4), "x"), "y": (Half(), "a", "x")})
    y, saved = net.forward(torch.randn(3, 4))
    with pytest.raises(ValueError, match="zip"):
        net.backward(saved, y)


def test_names_of_inputs_and_outputs():
    net = Graph({"a": (Tanh(), "one"), "y": (Tanh(), "a")}, inputs="one", outputs=["a", "y"])
    assert net.inputs == ("one",) and net.outputs == ("a", "y")


class Watched(Scale):
    """Keeps nothing, and counts how many of its outputs are alive when it runs."""

    def __init__(self, alive):
        super().__init__(2.0)
        self.alive = alive

    def forward(self, x):
        gc.collect()
        self.alive["seen"] = max(self.alive.get("seen", 0), sum(r() is not None for r in self.alive["refs"]))
        y = x * 2
        self.alive["refs"].append(weakref.ref(y))
        return y, None


def test_forward_drops_a_value_after_its_last_use():
    alive = {"refs": []}
    nodes = {f"v{i}": (Watched(alive), f"v{i - 1}" if i else "x") for i in range(8)}
    Graph({**nodes, "y": (Add(), "v7", "x")}).forward(torch.ones(3))
    assert alive["seen"] == 1


def test_backward_drops_what_a_layer_saved_when_it_is_used():
    net = Graph({"a": (Linear(4, 4), "x"), "b": (Sigmoid(), "a"), "c": (Mul(), "a", "b"), "y": (Tanh(), "c")})
    y, saved = net.forward(torch.randn(3, 4))
    sigmoid = weakref.ref(saved[1])
    freed = []
    backward = net.children["a"].backward
    net.children["a"].backward = lambda *args, **kw: (freed.append(sigmoid() is None), backward(*args, **kw))[
        1
    ]
    net.backward(saved, torch.ones_like(y))
    assert freed == [True] and saved == []


def test_several_inputs_and_outputs():
    """Each input's gradient is in a tuple, and an output's None is a gradient of 0."""
    nodes = {"a": (Linear(4, 3), "one"), "p": (Mul(), "a", "two"), "t": (Linear(3, 2), "p")}
    net = Graph(nodes, ("one", "two"), ("p", "t")).to(torch.float64)
    one, two = (torch.randn(5, n, dtype=torch.float64, requires_grad=True) for n in (4, 3))
    ys, saved = net.forward(one.detach(), two.detach())
    module = to_torch(net)
    theirs = module(one, two)
    dys = tuple(torch.randn_like(y) for y in ys)
    for given in (dys, (dys[0], None), (None, dys[1])):
        dxs, grads = net.backward(saved, given, keep=True)
        kept = [(z, d) for z, d in zip(theirs, given) if d is not None]
        leaves = [one, two, *module.parameters()]
        wanted = (
            torch.autograd.grad(*zip(*kept), allow_unused=True, retain_graph=True)
            if 0
            else (
                torch.autograd.grad(
                    [z for z, _ in kept], leaves, [d for _, d in kept], allow_unused=True, retain_graph=True
                )
            )
        )
        for a, b in zip([*dxs, *grads.values()], _ordered(wanted, module, grads), strict=True):
            near(a, torch.zeros_like(a) if b is None else b, 1e-12, "gradient")
    with pytest.raises(BatchError, match="Graph takes 2 inputs, not 1"):
        net.forward(one)
    with pytest.raises(ValueError, match="zip"):
        module(one, two, two)


def _ordered(wanted, module, grads):
    named = dict(zip([k for k, _ in module.named_parameters()], wanted[2:]))
    return [*wanted[:2], *(named[k] for k in grads)]


def test_a_net_inside_a_net():
    inner = Graph({"gate": (Sequential(Linear(4, 4), Sigmoid()), "x"), "y": (Mul(), "x", "gate")})
    net = Residual(Sequential(Linear(4, 4), inner)).to(torch.float64)
    assert "body.1.gate.0.weight" in net.params and len(net.leaves()) == 4
    assert check(net, torch.randn(3, 4, dtype=torch.float64)).ok
    assert not any(layer.training for layer in net.eval().walk())


def test_to_torch_and_back_keeps_values_names_and_shared_layers():
    net, x = tangled(), torch.randn(3, 4, dtype=torch.float64)
    again = from_torch(to_torch(net))
    assert repr(again) == repr(net) and again.params.keys() == net.params.keys()
    assert torch.equal(again(x), net(x)) and again.children["a"] is again.children["d"]


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_lower_puts_fast_forms_into_the_rows_of_a_graph(backend):
    row = Sequential(Conv2d(4, 4, 3, padding=1), BatchNorm2d(4))
    gate = Sequential(GlobalAvgPool(), Linear(4, 4), Sigmoid())
    net = Graph(
        {"h": (row, "x"), "s": (Residual(Tanh()), "h"), "g": (Sequential(*gate), "h"), "y": (Mul(), "h", "s")}
        | {"z": (Linear(4, 2), "g")},
        outputs=("y", "z"),
    )
    fast = lower(net.eval(), backend, "cpu", torch.float32)
    assert type(fast) is Graph and fast.params.keys() == net.params.keys() and fast.training is False
    assert type(fast.children["h"][1]) is not BatchNorm2d
    x = torch.randn(2, 4, 5, 5)
    for a, b in zip(fast.forward(x)[0], net.forward(x)[0]):
        torch.testing.assert_close(a, b)


def test_a_whole_step_compiles_and_trains():
    net = Sequential(tangled().to(torch.float32), Tanh())
    step = train_step(net, CrossEntropyLoss(), SGD(net.params, lr=0.1))
    x, target = torch.randn(8, 4), torch.randint(3, (8,))
    first = step(x, target, 1.0).loss
    compiled = torch.compile(step, fullgraph=True, backend="eager")
    losses = [compiled(x, target, 1.0).loss for _ in range(20)]
    assert losses[-1] < first


def test_the_graph_at_the_top_trains_layer_by_layer():
    net = tangled().to(torch.float32)
    step = train_step(net, CrossEntropyLoss(), SGD(net.params, lr=0.1))
    x, target = torch.randn(8, 4), torch.randint(3, (8,))
    losses = [step(x, target, 1.0, frozen=frozenset(["a.weight"])).loss for _ in range(30)]
    assert losses[-1] < losses[0]


WRONG = {
    'y takes "z", which no earlier value': dict(y=(Tanh(), "z")),
    'a takes "y", which no earlier value': dict(a=(Tanh(), "y"), y=(Tanh(), "a")),
    r"y \(Mul\) takes 2 inputs, not 1": dict(y=(Mul(), "x")),
    r"y \(Tanh\) takes 1 inputs, not 2": dict(y=(Tanh(), "x", "x")),
    r"y \(Tanh\) takes 1 inputs, not 0": dict(y=(Tanh(),)),
    "a isn't used": dict(a=(Tanh(), "x"), y=(Tanh(), "x")),
    '"x" can\'t be the name': dict(x=(Tanh(), "x")),
    '"a.b" can\'t be the name': {"a.b": (Tanh(), "x")},
    '"forward" can\'t be the name': dict(forward=(Tanh(), "x")),
    '"" can\'t be the name': {"": (Tanh(), "x")},
}


@pytest.mark.parametrize("words, nodes", WRONG.items(), ids=range(len(WRONG)))  # mutmut passes ids on
def test_what_is_no_graph_is_refused(words, nodes):
    with pytest.raises(ValueError, match=words):
        Graph(nodes)


def test_other_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match='no value is called "z"'):
        Graph({"y": (Tanh(), "x")}, outputs="z")
    with pytest.raises(ValueError, match="Graph needs a layer"):
        Graph({})
    with pytest.raises(TypeError, match="y is .*, not a Layer"):
        Graph({"y": (nn.Tanh(), "x")})


def test_the_layers_are_printed_with_what_they_take():
    assert (
        repr(Graph({"a": (Tanh(), "x"), "y": (Mul(), "a", "x")}))
        == "Graph(\n  (a): Tanh() of x\n  (y): Mul() of a, x\n)"
    )
    assert "\n  (y): Sequential(\n    (0): Tanh()\n  ) of x\n" in repr(
        Graph({"y": (Sequential(Tanh()), "x")})
    )


class WrongMul(Mul):
    """Its second gradient has the wrong sign."""

    def backward(self, saved, dy):
        (da, db), grads = super().backward(saved, dy)
        return (da, -db), grads


class WrongSum(Add):
    def backward(self, saved, dy):
        (da, db), grads = super().backward(saved, dy)
        return (2 * da, db), grads


@pytest.mark.parametrize("wrong, tensor", [(WrongMul, "input 1"), (WrongSum, "input")])
def test_gradcheck_names_the_input_of_a_layer_whose_gradient_is_wrong(wrong, tensor):
    net = Graph(
        {"a": (Linear(4, 4), "x"), "b": (Linear(4, 4), "x"), "p": (wrong(), "a", "b"), "y": (Tanh(), "p")}
    )
    report = check(net, torch.randn(3, 4, dtype=torch.float64))
    assert report.first_bad == f"p ({wrong.__name__}), {tensor}" and len(report.guilty) == 1


def test_a_layer_of_ones_own_with_two_inputs_is_checked():
    class Gate(Layer):
        num_inputs = 2

        def forward(self, a, b):
            return a * b.sin(), (a, b)

        def backward(self, saved, dy):
            a, b = saved
            return (dy * b.sin(), dy * a * b.cos()), {}

    net = Graph({"a": (Linear(4, 4), "x"), "y": (Gate(), "a", "x")})
    assert check(net, torch.randn(3, 4, dtype=torch.float64)).ok
    Gate.backward = lambda self, saved, dy: ((dy * saved[1].sin(), dy), {})
    assert not check(net, torch.randn(3, 4, dtype=torch.float64)).ok
