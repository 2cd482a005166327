"""The graph of a forward as layers: rows, and sums of two ways as Residuals."""

import pytest
import torch
from torch import fx

from nets.convert import paths
from nets.layers.activations import ReLU, Scale, Tanh
from nets.layers.containers import Residual, Sequential


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
    net = paths.between(*graph(("a", "x", a), ("b", "x", b), ("sum", "ba", None)), True)
    assert type(net) is Residual and net.children == {"body": a, "shortcut": b}


def test_a_way_without_layers_is_the_plain_shortcut():
    a = Tanh()
    net = paths.between(*graph(("a", "x", a), ("sum", "ax", None)), False)
    assert type(net) is Residual and net.children == {"body": a} and not net.training


def test_x_added_to_itself_is_a_scale_by_two():
    net = paths.between(*graph(("sum", "xx", None)), True)
    assert type(net) is Scale and net.factor == 2


def test_a_residual_inside_a_way_of_another():
    a, b = Tanh(), ReLU()
    steps = [("a", "x", a), ("inner", "ax", None), ("b", ["inner"], b), ("outer", "bx", None)]
    net = paths.between(*graph(*steps), True)
    assert type(net) is Residual and [type(layer) for layer in net.children["body"]] == [Residual, ReLU]


def test_ways_that_cross_are_refused():
    steps = [("a", "x", Tanh()), ("b", "x", ReLU()), ("c", "ab", None), ("d", "ac", None)]
    with pytest.raises(ValueError, match="a is on more than one way to a sum"):
        paths.between(*graph(*steps), True)


def test_a_way_that_leads_nowhere_is_refused():
    with pytest.raises(ValueError, match="idle leads nowhere"):
        paths.between(*graph(("idle", "x", Tanh()), ("a", "x", ReLU())), True)


def test_a_layer_alone_is_given_as_it_is():
    layer = Tanh()
    assert paths.between(*graph(("a", "x", layer)), True) is layer
