"""From a traced forward, a graph of calls, to Sequentials, Residuals and Graphs.

The dominator of a node is the last earlier node that all paths to it contain. So the graph is followed
backwards from its output, from dominator to dominator, and the steps become a Sequential. A step is

- one layer, where a node is made from its dominator alone;
- a Residual, where it is the sum of two paths from its dominator that have no node in common;
- a Graph of all nodes between the two otherwise. In it, what only leads to one node becomes one layer again.

Source: Lengauer and Tarjan 1979, for dominators. One pass finds them if the nodes are in order.
"""

from collections.abc import Iterable

from torch import nn
from torch.fx import Node

from nets.layers.activations import Scale
from nets.layers.arithmetic import Add
from nets.layers.base import Layer
from nets.layers.containers import Residual, Sequential
from nets.layers.graph import Graph

# Every node after the inputs, in order: (the nodes that it is made from, the layer that makes it, or None
# for y = x). A bare tensor of the module is made from nothing.
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

    ValueError if a layer with tensors isn't used.
    """
    paths = _Paths([start], [end], calls, training)
    layer = paths.chain(start, end)
    paths.check_used()
    return layer


def whole(starts: list[Node], ends: list[Node], one_output: bool, calls: Calls, training: bool) -> Graph:
    """The Graph with several inputs or outputs. ValueError as for `between`."""
    paths = _Paths(starts, ends, calls, training)
    graph = paths.graph({start: start.name for start in starts}, ends, one_output)
    paths.check_used()
    return graph


class _Paths:
    """The nodes of one forward, with their dominators and users.

    A node that depends on no input, such as a bare parameter, has no dominator.
    """

    def __init__(self, starts: list[Node], ends: list[Node], calls: Calls, training: bool):
        self.calls, self.training, self.ends = calls, training, ends
        self.order = {node: i for i, node in enumerate(calls)}
        self.dominator = _dominators(starts, calls)
        self.visited: set[Node] = set()
        self.users: dict[Node, list[Node]] = {node: [] for node in (*starts, *calls)}
        for node, (inputs, _) in calls.items():
            for x in inputs:
                self.users[x].append(node)

    def check_used(self):
        """ValueError if a layer with parameters or buffers leads to no output."""
        unused = [
            node.name
            for node, (_, layer) in self.calls.items()
            if node not in self.visited and layer and not layer.constant and layer.state_dict()
        ]
        if unused:
            raise ValueError(f"{', '.join(unused)} leads nowhere")

    def chain(self, start: Node, end: Node) -> Layer | None:
        """The layer that computes end from start, one of its dominators."""
        layers, node = [], end
        while node is not start:
            layer = self._step(node)
            layers += [layer] if layer else []
            node = self._dominator(node)
        return row(layers[::-1], self.training)

    def _dominator(self, node: Node) -> Node:
        dominator = self.dominator.get(node)
        if dominator is None:
            raise ValueError(f"{node.name} doesn't depend on the input")
        return dominator

    def _is_plain(self, node: Node) -> bool:
        """Whether a node is made from one other by a layer of one input."""
        inputs, layer = self.calls[node]
        return len(inputs) == 1 and (layer is None or layer.num_inputs == 1)

    def _step(self, node: Node) -> Layer | None:
        """The layer that computes a node from its dominator."""
        start = self._dominator(node)
        inputs, layer = self.calls[node]
        self.visited.add(node)
        if self._is_plain(node):
            return layer
        if type(layer) is Add and inputs == [start, start]:
            return Scale(2.0)
        if type(layer) is Add and all(x is start or x in self.dominator for x in inputs):
            regions = [self._region([start], x) for x in inputs]
            if regions[0].isdisjoint(regions[1]):
                return self._residual(start, inputs, regions)
        return self.graph({start: "x"}, [node])

    def _residual(self, start: Node, inputs: list[Node], regions: list[set[Node]]) -> Layer:
        """The sum of the paths from start to two nodes, in the order in which forward takes them."""
        first = [min((self.order[node] for node in region), default=len(self.order)) for region in regions]
        ends = inputs if first[0] <= first[1] else inputs[::-1]
        branches = [layer for end in ends if (layer := self.chain(start, end))]
        return in_mode(Residual(*branches) if branches else Scale(2.0), self.training)

    def _region(self, starts: Iterable[Node], end: Node) -> set[Node]:
        """The nodes that lead from starts to end, without starts and with end."""
        starts, found, stack = set(starts), set(), [end]
        while stack:
            node = stack.pop()
            if node not in starts and node not in found and node in self.calls:
                found.add(node)
                stack += self.calls[node][0]
        return found

    def graph(self, names: dict[Node, str], ends: list[Node], one_output: bool = True) -> Graph:
        """The Graph that computes the ends from the inputs, whose names are given."""
        region = set().union(*(self._region(names, end) for end in ends))
        made: list[tuple[Node, Layer | None, list[Node]]] = []
        needed, given = set(ends), next(iter(names))
        for node in sorted(region, key=self.order.__getitem__, reverse=True):
            if node not in needed:
                continue
            layer, inputs = self._one(node, names, ends)
            made.append((node, layer, inputs))
            needed.update(inputs)
        names, nodes = dict(names), {}
        for node, layer, inputs in reversed(made):
            if layer is None:  # y = x
                names[node] = names[inputs[0]]
                continue
            names[node] = _name(node, nodes, names)
            nodes[names[node]] = (layer, *(names[x] for x in inputs or [given]))
        outputs = [names[end] for end in ends]
        inputs = [name for node, name in names.items() if node not in self.calls or node is given]
        graph = Graph(nodes, list(dict.fromkeys(inputs)), outputs[0] if one_output else outputs)
        in_mode(graph, self.training)
        return graph

    def _one(self, node: Node, names: dict[Node, str], ends: list[Node]) -> tuple[Layer | None, list[Node]]:
        """(the layer that makes a node of a Graph, what it is made from).

        If other nodes lead to this one alone, all of them become one layer.
        """
        layers, at = [], node
        while at in self.dominator and (at not in ends or self._is_plain(at)):
            start = self.dominator[at]
            if start is None:
                break
            inside = self._region([start], at)
            if any(user not in inside for x in inside - {at} for user in self.users[x]):
                break
            if (inside - {at}) & set(ends):
                break
            layer = self._step(at)
            layers += [layer] if layer else []
            used_elsewhere = any(user not in inside for user in self.users[start])
            at = start
            if at in names or at in ends or used_elsewhere:
                break
        if at is not node:
            return row(layers[::-1], self.training), [at]
        self.visited.add(node)
        inputs, layer = self.calls[node]
        return layer, inputs


def _name(node: Node, nodes: dict, names: dict) -> str:
    """A name in a Graph for a node: torch.fx's, unless it is taken."""
    name = f"{node.name}_" if hasattr(nn.Module(), node.name) else node.name
    while name in nodes or name in names.values() or name == "x":
        name += "_"
    return name


def _dominators(starts: list[Node], calls: Calls) -> dict[Node, Node | None]:
    """Node -> its dominator, for all nodes that depend on an input. None if paths begin at several inputs."""
    dominator: dict[Node, Node | None] = {}
    depth: dict[Node | None, int] = {None: 0} | dict.fromkeys(starts, 1)
    parent: dict[Node, Node | None] = dict.fromkeys(starts)
    for node, (inputs, _) in calls.items():
        before: list[Node | None] = [x for x in inputs if x in depth]
        if not before:
            continue
        common = before[0]
        for other in before[1:]:
            while common is not other:  # of two nodes, follow the one with more dominators before it
                if depth[common] >= depth[other]:
                    common = parent[common]  # type: ignore[index]
                else:
                    other = parent[other]  # type: ignore[index]
        dominator[node] = parent[node] = common
        depth[node] = depth[common] + 1
    return dominator
