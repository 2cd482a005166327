"""The graph of a forward as layers: rows, sums of two ways as Residuals, and any other part as a Graph."""

import pytest
import torch
from torch import fx

from nets.convert import paths
from nets.layers.activations import ReLU, Scale, Tanh
from nets.layers.arithmetic import Add, Mul
from nets.layers.containers import Residual, Sequential
from nets.layers.graph import Graph
from nets.layers.joining import Cat
from nets.layers.linear import Linear
from nets.layers.parameter import Parameter


def test_a_row_is_nothing_one_layer_or_a_sequential():
    a, b = Tanh(), ReLU()
    assert paths.row([], True) is None and paths.row([a], False) is a
    net = paths.row([a, b], False)
    assert type(net) is Sequential and list(net) == [a, b] and not net.training and a.training


def test_a_mode_is_set_on_the_layer_alone():
    net = Sequential(Tanh())
    assert paths.in_mode(net, False) is net and not net.training and net[0].training


def graph(*steps):
    """(start, end, calls) of a graph: each step is (name, what it is made from, layer or None)."""
    g = fx.Graph()
    nodes = {"x": g.placeholder("x")}
    calls = {}
    for name, made_from, layer in steps:
        nodes[name] = g.create_node("call_function", torch.add, (), name=name)
        calls[nodes[name]] = [nodes[m] for m in made_from], layer
    return nodes["x"], nodes[steps[-1][0]], calls


def test_calls_in_a_row_become_a_sequential_in_order():
    a, b = Tanh(), ReLU()
    net = paths.between(*graph(("a", "x", a), ("same", ["a"], None), ("b", ["same"], b)), True)
    assert list(net) == [a, b]


def test_a_sum_of_two_ways_becomes_a_residual_whose_first_way_comes_first():
    a, b = Tanh(), ReLU()
    net = paths.between(*graph(("a", "x", a), ("b", "x", b), ("sum", "ba", Add())), True)
    assert type(net) is Residual and net.children == {"body": a, "shortcut": b}


def test_a_way_without_layers_is_the_plain_shortcut():
    a = Tanh()
    net = paths.between(*graph(("a", "x", a), ("sum", "ax", Add())), False)
    assert type(net) is Residual and net.children == {"body": a} and not net.training


def test_x_added_to_itself_is_a_scale_by_two():
    net = paths.between(*graph(("sum", "xx", Add())), True)
    assert type(net) is Scale and net.factor == 2


def test_a_residual_inside_a_way_of_another():
    a, b = Tanh(), ReLU()
    steps = [("a", "x", a), ("inner", "ax", Add()), ("b", ["inner"], b), ("outer", "bx", Add())]
    net = paths.between(*graph(*steps), True)
    assert type(net) is Residual and [type(layer) for layer in net.children["body"]] == [Residual, ReLU]


def test_ways_that_cross_are_a_graph():
    steps = [("a", "x", Tanh()), ("b", "x", ReLU()), ("c", "ab", Add()), ("d", "ac", Add())]
    net = paths.between(*graph(*steps), True)
    assert type(net) is Graph and list(net.children) == ["a", "b", "c", "d"]
    assert net.sources["d"] == ("a", "c")


def test_a_product_is_a_graph_in_which_rows_are_one_layer():
    """As a squeeze-and-excitation block: x times what a row of layers makes of it."""
    steps = [
        ("a", "x", Tanh()),
        ("b", "a", ReLU()),
        ("c", "b", Tanh()),
        ("y", "cx", Mul()),
        ("z", "y", ReLU()),
    ]
    net = paths.between(*graph(*steps), False)
    assert [type(layer) for layer in net] == [Graph, ReLU]
    assert net[0].sources == {"c": ("x",), "y": ("c", "x")} and not net[0].training
    assert [type(layer) for layer in net[0].children["c"]] == [Tanh, ReLU, Tanh]


def test_a_residual_inside_a_graph_is_one_layer():
    steps = [
        ("a", "x", Tanh()),
        ("s", "ax", Add()),
        ("b", "s", ReLU()),
        ("c", "x", Tanh()),
        ("y", "bc", Mul()),
    ]
    net = paths.between(*graph(*steps), True)
    assert net.sources == {"b": ("x",), "c": ("x",), "y": ("b", "c")}
    assert [type(layer) for layer in net.children["b"]] == [Residual, ReLU]


def test_a_bare_parameter_is_taken_with_the_value_that_it_meets():
    with_shape = Parameter((3,))
    net = paths.between(*graph(("a", "x", Tanh()), ("w", "", with_shape), ("y", "aw", Mul())), True)
    assert type(net[0]) is Tanh and net[1].sources == {"w": ("x",), "y": ("x", "w")}


def test_a_node_that_does_nothing_has_no_layer_in_a_graph():
    steps = [
        ("a", "x", Tanh()),
        ("same", "a", None),
        ("y", ["same", "x"], Mul()),
        ("z", ["y", "same"], Add()),
    ]
    net = paths.between(*graph(*steps), True)
    assert net.sources == {"same": ("x",), "y": ("same", "x"), "z": ("y", "same")}
    assert type(net.children["same"]) is Tanh


def test_a_layer_of_any_number_of_inputs_is_in_a_graph_even_with_one():
    """Its backward gives a tuple."""
    net = paths.between(*graph(("y", "x", Cat(1))), True)
    assert type(net) is Graph and net.sources == {"y": ("x",)}


def test_a_name_that_a_module_cannot_have_is_changed():
    net = paths.between(*graph(("half", "x", Tanh()), ("y", ["half", "x"], Mul())), True)
    assert list(net.children) == ["half_", "y"]


def test_several_inputs_and_outputs_are_one_graph():
    g = fx.Graph()
    one, two = g.placeholder("one"), g.placeholder("two")
    a = g.create_node("call_function", torch.add, (), name="a")
    b = g.create_node("call_function", torch.add, (), name="b")
    net = paths.whole([one, two], [a, b], False, {a: ([one, two], Add()), b: ([a], Tanh())}, True)
    assert net.inputs == ("one", "two") and net.outputs == ("a", "b")
    x = torch.ones(2)
    assert torch.equal(net.forward(x, x)[0][0], 2 * x)


def test_a_layer_with_tensors_that_leads_nowhere_is_refused():
    with pytest.raises(ValueError, match="idle leads nowhere"):
        paths.between(*graph(("idle", "x", Linear(2, 2)), ("a", "x", ReLU())), True)
    assert type(paths.between(*graph(("idle", "x", Tanh()), ("a", "x", ReLU())), True)) is ReLU


def test_a_layer_alone_is_given_as_it_is():
    layer = Tanh()
    assert paths.between(*graph(("a", "x", layer)), True) is layer
