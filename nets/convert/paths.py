"""Paths through a traced forward: a graph of calls becomes Sequentials and Residuals.

In a graph of calls (torch.fx) each node is made from one earlier node, or is the sum of two. The dominator
of a node is the last earlier node that all paths to it contain. Between a sum's dominator and the sum there
are two paths without common nodes: the body and the shortcut of a Residual. So the graph is followed
backwards from its output, from dominator to dominator, and the nodes on the way become a Sequential.
Source: Lengauer and Tarjan 1979, for dominators. One pass finds them if the nodes are in order.
"""

from torch.fx import Node

from nets.layers.activations import Scale
from nets.layers.base import Layer
from nets.layers.containers import Residual, Sequential

# Every node after the first, in order: (the nodes that it is made from, the layer that makes it).
# One node and a layer, or None for y = x; or two nodes that are added, and None.
Calls = dict[Node, tuple[list[Node], Layer | None]]


def row(layers: list[Layer], training: bool) -> Layer | None:
    """Layers one after another as one layer in this mode. None, for y = x, if there are none."""
    if len(layers) < 2:
        return layers[0] if layers else None
    return in_mode(Sequential(*layers), training)


def in_mode(layer: Layer, training: bool) -> Layer:
    """The layer, with its own mode set. The layers inside keep theirs."""
    layer.training = training
    return layer


def between(start: Node, end: Node, calls: Calls, training: bool) -> Layer | None:
    """The layer that computes end from start, or None for y = x.

    calls     all nodes after start
    training  the mode of the nets that are made

    ValueError if the paths to a sum have a common node, or if a node isn't used.
    """
    return _Paths(start, end, calls, training).layer()


class _Paths:
    def __init__(self, start: Node, end: Node, calls: Calls, training: bool):
        self.start, self.end, self.calls, self.training = start, end, calls, training
        self.order = {node: i for i, node in enumerate(calls)}
        self.dominator = _dominators(start, calls)
        self.visited: set[Node] = set()

    def layer(self) -> Layer | None:
        result, _ = self._path(self.start, self.end)
        unused = [node.name for node in self.calls if node not in self.visited]
        if unused:
            raise ValueError(f"{', '.join(unused)} leads nowhere")
        return result

    def _path(self, start: Node, end: Node) -> tuple[Layer | None, int]:
        """The layer that computes end from start, and the position of its first node in the graph's order."""
        layers, first, node = [], len(self.order), end
        while node is not start:
            if node in self.visited:
                raise ValueError(f"{node.name} is on more than one way to a sum")
            self.visited.add(node)
            inputs, layer = self.calls[node]
            if len(inputs) == 2:
                layer, branch_first = self._sum(self.dominator[node], inputs)
                first = min(first, branch_first)
            layers += [layer] if layer else []
            first, node = min(first, self.order[node]), self.dominator[node]
        return row(layers[::-1], self.training), first

    def _sum(self, start: Node, inputs: list[Node]) -> tuple[Layer, int]:
        """The layer that adds the paths from start to two nodes, and the position of its first node."""
        paths = sorted((self._path(start, node) for node in inputs), key=lambda path: path[1])
        branches = [layer for layer, _ in paths if layer]  # in the order of forward, as in torch
        layer = Residual(*branches) if branches else Scale(2.0)  # Scale for x + x
        return in_mode(layer, self.training), paths[0][1]


def _dominators(start: Node, calls: Calls) -> dict[Node, Node]:
    """Node -> its dominator, for all nodes after start."""
    dominator: dict[Node, Node] = {}
    depth = {start: 0}
    for node, (inputs, _) in calls.items():
        a, b = inputs[0], inputs[-1]
        while a is not b:  # of two nodes, follow the one with more dominators before it
            if depth[a] >= depth[b]:
                a = dominator[a]
            else:
                b = dominator[b]
        dominator[node], depth[node] = a, depth[a] + 1
    return dominator
