"""A module's forward as a torch.fx graph of calls, traced in both modes."""

import inspect
import operator
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from nets.layers.registry import Mode

ASSERTIONS = (torch._assert, torch.ops.aten._assert_async)
TORCH = Path(torch.__file__).parent


class _Proxy(fx.Proxy):
    """A proxy that records x += y and its like as writes in place. torch.fx records them as x = x + y."""

    def __iadd__(self, other):
        return self._write(operator.iadd, other)

    def __isub__(self, other):
        return self._write(operator.isub, other)

    def __imul__(self, other):
        return self._write(operator.imul, other)

    def __itruediv__(self, other):
        return self._write(operator.itruediv, other)

    def _write(self, function, other):
        return self.tracer.create_proxy("call_function", function, (self, other), {})


class _Tracer(fx.Tracer):
    """Children are calls of their own, except those that take or give anything but one tensor.

    inlined    the children whose own calls are in the graph
    constants  name -> tensor that forward makes, or that is an attribute without being a buffer
    """

    proxy_buffer_attributes = True

    def __init__(self, is_one_tensor: Callable[[nn.Module], bool]):
        super().__init__()
        self.is_one_tensor = is_one_tensor
        self.inlined: dict[int, nn.Module] = {}
        self.constants: dict[str, Tensor] = {}

    def is_leaf_module(self, m, module_qualified_name):
        return id(m) not in self.inlined

    def call_module(self, m, forward, args, kwargs):
        alone = len(args) == 1 and not kwargs and isinstance(args[0], fx.Proxy)
        of_torch = type(m).__module__.startswith("torch.")
        if not of_torch and not (alone and self.is_one_tensor(m)):
            self.inlined[id(m)] = m
        return super().call_module(m, forward, args, kwargs)

    def create_proxy(self, *args, **kwargs):
        proxy = super().create_proxy(*args, **kwargs)
        proxy.node.meta["line"] = _caller()
        return proxy

    def create_arg(self, a):
        if isinstance(a, Tensor) and not isinstance(a, nn.Parameter) and a not in self.tensor_attrs:
            name = f"_tensor_constant{len(self.constants)}"  # torch.fx would put it into the module
            self.constants[name] = a
            return self.create_node("get_attr", name, (), {})
        return super().create_arg(a)

    def proxy(self, node):
        return _Proxy(node, self)


@dataclass
class Traced:
    """The calls of a forward.

    starts     the nodes of its inputs
    nodes      its calls, in order
    result     its output: a node, or a tuple, list or dict of nodes and other values
    constants  name in a get_attr -> tensor that isn't an attribute
    inlined    the children that are traced with it
    differs    whether the calls differ between the modes
    """

    starts: list[fx.Node]
    nodes: list[fx.Node]
    result: Any
    constants: dict[str, Tensor] = field(default_factory=dict)
    inlined: list[nn.Module] = field(default_factory=list)
    differs: bool = False


def trace(module: nn.Module, is_one_tensor: Callable[[nn.Module], bool]) -> Traced:
    """The calls in a module's forward in its current mode, compared with those in the other mode.

    Inputs with a default get it. ValueError without an input.
    is_one_tensor: whether a child's forward takes one tensor and gives one.
    """
    inputs = inspect.signature(module.forward).parameters.values()
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    required = [p for p in inputs if p.default is p.empty and p.kind not in kinds]
    if not required:
        raise ValueError("it takes 0 inputs")
    defaults = {p.name: p.default for p in inputs if p.default is not p.empty}
    modes = [(m, m.training) for m in module.modules()]
    tracer = _Tracer(is_one_tensor)
    try:
        graph = tracer.trace(module, defaults)
        for m, training in modes:
            m.training = not training
        other = _Tracer(is_one_tensor).trace(module, defaults)
    finally:
        for m, training in modes:
            m.training = training
    for traced in (graph, other):
        _clean(traced, len(required))
    differs = not _unify(graph, other)
    nodes = list(graph.nodes)
    starts = [node for node in nodes if node.op == "placeholder"]
    calls = [node for node in nodes if node.op not in ("placeholder", "output")]
    return Traced(starts, calls, nodes[-1].args[0], tracer.constants, [*tracer.inlined.values()], differs)


def _clean(graph: fx.Graph, inputs: int):
    """Take out the inputs that have their defaults, and assertions: torch.fx adds one for each of these."""
    for node in [node for node in graph.nodes if node.op == "placeholder"][inputs:]:
        for user in [*node.users]:
            for last in [*user.users, user]:
                graph.erase_node(last)
        graph.erase_node(node)
    for node in reversed(graph.nodes):
        if node.target in ASSERTIONS and not node.users:
            graph.erase_node(node)
    for node in reversed(graph.nodes):  # what only an assertion read
        if node.op == "call_function" and not node.users and node.target in (operator.eq, operator.ge):
            graph.erase_node(node)


def _unify(graph: fx.Graph, other: fx.Graph) -> bool:
    """Put Mode where an argument is the mode in both graphs. Whether they are the same otherwise."""
    nodes, others = list(graph.nodes), list(other.nodes)
    for node in nodes:
        node.meta["arguments"] = node.args, dict(node.kwargs)
    if len(nodes) != len(others):
        return False
    same = True
    for a, b in zip(nodes, others):
        args, kwargs = _merged((a.args, dict(a.kwargs)), (b.args, dict(b.kwargs)))
        a.meta["arguments"] = args, kwargs
        same &= (a.op, a.target) == (b.op, b.target)
        same &= str((args, kwargs)) == str(_merged((b.args, dict(b.kwargs)), (a.args, dict(a.kwargs)), True))
    return same


def _merged(a: Any, b: Any, second: bool = False) -> Any:
    """a, with Mode in place of its bools that are the opposite in b. second: of b's graph, for comparison."""
    if isinstance(a, bool) and isinstance(b, bool) and a is not b:
        return Mode(b if second else a)
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return {k: _merged(a[k], b[k], second) for k in a}
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)) and len(a) == len(b):
        return type(a)(_merged(x, y, second) for x, y in zip(a, b))
    return a


def _caller() -> str:
    """The file and line of the model's code that runs at the moment, such as "model.py:12"."""
    frame = sys._getframe()
    while frame and (frame.f_code.co_filename == __file__ or TORCH in Path(frame.f_code.co_filename).parents):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else ""
