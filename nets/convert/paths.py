"""Paths: what a traced forward computes, one thing after another, and where two ways meet.

In a graph of calls (torch.fx) each node is made from one before it, or is the sum of two. The
last place that all ways to a node go through is its dominator. Between a sum's dominator and the
sum lie two ways, which share nothing: the body and the shortcut of a Residual. So the graph is
walked from its output, from dominator to dominator, and what was walked is a Sequential.
Source: Lengauer and Tarjan 1979, for dominators; with a graph in order one pass finds them.
"""

from torch.fx import Node

from nets.layers.activations import Scale
from nets.layers.base import Layer
from nets.layers.containers import Residual, Sequential


def row(layers: list[Layer], training: bool) -> Layer | None:
    """Layers one after another: None where there are none, for then y = x."""
    if len(layers) < 2:
        return layers[0] if layers else None
    return in_mode(Sequential(*layers), training)


def in_mode(layer: Layer, training: bool) -> Layer:
    """The layer in training or evaluation, by itself, whatever those in it are in."""
    layer.training = training
    return layer


def between(start: Node, end: Node, calls: dict[Node, tuple[list[Node], Layer | None]], training: bool):
    """What leads from one node to another: a layer, or None for y = x.

    calls  every node behind start, in order: (what it is made from, the layer that makes it), one
           node and a layer, or None for y = x; or two nodes that are added up, and None
    ValueError where the ways cross, or lead nowhere.
    """
    dominator, depth = {}, {start: 0}
    for node, (made_from, _) in calls.items():
        a, b = made_from[0], made_from[-1]
        while a is not b:
            deeper = a if depth[a] >= depth[b] else b
            a, b = (dominator[a], b) if deeper is a else (a, dominator[b])
        dominator[node], depth[node] = a, depth[a] + 1
    order, walked = {node: i for i, node in enumerate(calls)}, set()

    def way(above, node) -> tuple[Layer | None, int]:
        """What leads from above to node, and where in the graph's order it begins."""
        found, first = [], len(order)
        while node is not above:
            if node in walked:
                raise ValueError(f"{node.name} is on more than one way to a sum")
            walked.add(node)
            made_from, layer = calls[node]
            if len(made_from) == 2:
                ways = sorted((way(dominator[node], side) for side in made_from), key=lambda w: w[1])
                sides = [side for side, _ in ways if side]  # the first goes first, as in torch
                layer = in_mode(Residual(*sides) if sides else Scale(2.0), training)  # x + x
                first = min(first, ways[0][1])
            found += [layer] if layer else []
            first, node = min(first, order[node]), dominator[node]
        return row(found[::-1], training), first

    found, _ = way(start, end)
    idle = [node.name for node in calls if node not in walked]
    if idle:
        raise ValueError(f"{', '.join(idle)} leads nowhere")
    return found
