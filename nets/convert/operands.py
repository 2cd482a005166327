"""The arguments of a call in a traced forward: tensors, sizes that depend on the batch, and plain values."""

import operator
from dataclasses import dataclass, field
from typing import Any

from torch import fx
from torch.fx.node import map_arg

from nets.common.errors import Unsupported
from nets.layers.registry import Operand
from nets.layers.sizes import Computed, Size

ARITHMETIC = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.floordiv: "//",
    operator.mod: "%",
}


@dataclass
class Shape:
    """x.shape of a node, whose number of axes isn't known."""

    node: fx.Node


@dataclass
class Operands:
    """The sizes among the nodes of a forward, and the samples that every tensor's rows are.

    sizes    node -> Shape, Size or Computed; the index of a Size is the node whose size it is
    samples  node -> the first node that has the same samples
    """

    sizes: dict[fx.Node, Any] = field(default_factory=dict)
    samples: dict[fx.Node, fx.Node] = field(default_factory=dict)

    def is_size(self, node: fx.Node) -> bool:
        """Whether a node is a size, rather than a tensor. It is then known from here on."""
        found = self._size(node)
        if found is not None:
            self.sizes[node] = found
        return found is not None

    def _size(self, node: fx.Node) -> Any:
        args, kwargs = node.args, node.kwargs
        if (node.op == "call_method" and node.target == "size") or node.target is getattr:
            x = args[0]
            if not isinstance(x, fx.Node) or (node.target is getattr and args[1] != "shape"):
                return None
            dim = kwargs.get("dim", args[1] if len(args) > 1 and node.target == "size" else None)
            return Shape(x) if dim is None else Size(dim, x)  # type: ignore[arg-type]
        if node.op != "call_function":
            return None
        if node.target is operator.getitem and isinstance(self.sizes.get(args[0]), Shape):  # type: ignore[arg-type]
            return self._entry(self.sizes[args[0]].node, args[1])  # type: ignore[index]
        if node.target in ARITHMETIC and len(args) == 2:
            values = [self.sizes.get(a) if isinstance(a, fx.Node) else a for a in args]
            if all(isinstance(v, (int, Size, Computed)) for v in values):
                return Computed(ARITHMETIC[node.target], *values)
        return None

    def _entry(self, x: fx.Node, index: Any) -> Any:
        """x.shape[index]: a Size, or a tuple of them for a slice whose ends count from the last axis."""
        if isinstance(index, int):
            return Size(index, x)  # type: ignore[arg-type]
        ends = (index.start, index.stop, index.step) if isinstance(index, slice) else (0, 0, 0)
        start, stop, step = ends
        if isinstance(start, int) and start < 0 and step is None and (stop is None or stop < 0):
            return tuple(Size(d, x) for d in range(start, stop or 0))  # type: ignore[arg-type]
        raise Unsupported(f"shape[{index}] (sizes of single axes are known)")

    def split(self, arguments: tuple[Any, dict]) -> tuple[list[fx.Node], tuple[Any, dict]]:
        """(the tensors of a call, its arguments with an Operand for each of these).

        Every occurrence of a tensor is an operand of its own. After them come tensors whose sizes alone are
        used. A number of samples is taken from the call's own operand where it has the same samples.
        """
        nodes: list[fx.Node] = []
        map_arg(arguments, lambda node: self._count(node, nodes))
        own = len(nodes)
        places = iter(range(own))

        def local(node: fx.Node) -> Any:
            if node not in self.sizes:
                return Operand(next(places))
            return self._local(self.sizes[node], nodes)

        args, kwargs = map_arg(arguments, local)
        return nodes, (args, dict(kwargs))

    def _count(self, node: fx.Node, nodes: list[fx.Node]) -> fx.Node:
        if node not in self.sizes:
            nodes.append(node)
        return node

    def _local(self, size: Any, nodes: list[fx.Node]) -> Any:
        """A size whose index is a place among the call's nodes. Missing nodes are added."""
        if isinstance(size, Shape):
            raise Unsupported("a whole shape as an argument (sizes of single axes are known)")
        if isinstance(size, Computed):
            return Computed(size.operation, self._local(size.a, nodes), self._local(size.b, nodes))
        if isinstance(size, tuple):
            return tuple(self._local(s, nodes) for s in size)
        if not isinstance(size, Size):
            return size
        x: Any = size.index
        if size.dim == 0 and nodes and self.samples.get(nodes[0]) is self.samples.get(x, x):
            return Size(0)
        if x not in nodes:
            nodes.append(x)
        return Size(size.dim, nodes.index(x))
