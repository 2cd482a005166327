"""Conversion from torch: a torch.nn module becomes a net of this project's layers, with the same weights.

A module that a layer lists in torch_types becomes that layer, and nn.Sequential becomes a Sequential. The
forward of any other module is traced (torch.fx): consecutive calls become a Sequential, and a sum of two
paths becomes a Residual (paths.py).

    from nets.convert.from_torch import from_torch
    net = from_torch(torchvision.models.resnet18())
"""

import inspect
import operator
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from nets.common.errors import ModuleError, Unsupported
from nets.convert import faults, paths
from nets.convert.torch_parts import (
    ADD,
    call_name,
    calls,
    inplace_calls,
    memory_sharing_modules,
    modules,
)
from nets.layers.activations import Scale
from nets.layers.base import Layer
from nets.layers.registry import is_size


class _Proxy(fx.Proxy):
    """A proxy that records x += y and x *= y as writes in place. torch.fx records them as x = x + y."""

    def __iadd__(self, other):
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __imul__(self, other):
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m, module_qualified_name):
        return True  # every child is converted by itself

    def proxy(self, node):
        return _Proxy(node, self)


@dataclass
class _Part:
    """The conversion of a module or call."""

    layer: Layer | None  # None for y = x
    shares_memory: bool = False  # whether y can share the memory of x
    writes: bool = False  # whether it writes to x


def from_torch(module: nn.Module) -> Layer:
    """A torch.nn module as a layer or net, with clones of its weights and buffers.

    Supported are the modules in the layers' torch_types, nn.Sequential, and modules with a forward that can
    be traced and consists of supported modules, of the calls in torch_calls, and of sums. Examples are
    torchvision's AlexNet, VGGs and ResNets. Every part keeps its training or evaluation mode. Shared
    modules and tensors stay shared. All parameters are trained, even those with requires_grad=False.

    The net's `torch_names` maps the names of its params and buffers to the names in the module.
    ModuleError, a ValueError, names every part that isn't supported.
    """
    if isinstance(module, Mapping):
        load = "load it into its model with load_state_dict, and convert that"
        raise ModuleError(f"from_torch takes a torch.nn.Module, not a state dict; {load}")
    if not isinstance(module, nn.Module):
        what = module if isinstance(module, type) else type(module)
        raise ModuleError(f"from_torch takes a torch.nn.Module; {what.__name__} is no torch.nn.Module")
    converter = _Converter()
    for what in faults.everywhere():
        converter.problem(what, "")
    layer = converter.part(module, "").layer or Scale(1.0)
    if converter.problems:
        parts = "; ".join(f"{what} ({', '.join(names)})" for what, names in converter.problems.items())
        raise ModuleError(f"no layer here is for these parts of {type(module).__name__}: {parts}")
    tensors = layer.params | layer.buffers
    layer.torch_names = {name: converter.names[id(t)] for name, t in tensors.items()}
    return layer


class _Converter:
    """Converts a module and its children, and collects all problems on the way.

    problems  what isn't supported -> names of the modules, in order (a dict as an ordered set)
    names     id of a layer's tensor -> its name in the module
    """

    def __init__(self):
        self.problems: dict[str, dict[str, None]] = {}
        self.names: dict[int, str] = {}
        self.parts: dict[int, _Part] = {}  # by id of a module
        self.clones: dict[int, Tensor] = {}  # by id of a tensor
        self.modules, self.calls = modules(), calls()
        self.memory_sharing, self.inplace_calls = memory_sharing_modules(), inplace_calls()

    def problem(self, what: str | Exception, name: str):
        """Add a problem of the module `name`."""
        self.problems.setdefault(str(what), {})[name or "itself"] = None

    def _count(self) -> int:
        """The number of problems."""
        return sum(map(len, self.problems.values()))

    def part(self, module: nn.Module, name: str) -> _Part:
        """The conversion of a module. A module with tensors is converted once and then shared."""
        if id(module) not in self.parts:
            part = self._new(module, name)
            if part.layer is None or not (part.layer.params or part.layer.buffers):
                return part  # without tensors, nothing has to be shared
            self.parts[id(module)] = part
        return self.parts[id(module)]

    def _new(self, module: nn.Module, name: str) -> _Part:
        if isinstance(original := getattr(module, "_orig_mod", None), nn.Module):  # torch.compile's
            return self.part(original, _under(name, "_orig_mod"))
        found = faults.of_module(module)
        for what in found:
            self.problem(what, name)
        if type(module) in self.modules and not faults.is_scripted(module):
            return self._leaf(module, name)
        if isinstance(module, fx.GraphModule):
            return self._traced(module, name)
        if found and type(module).__module__.startswith("torch."):
            return _Part(None)
        if type(module).forward is nn.Sequential.forward:
            return self._row(module, name)
        if type(module).__module__.startswith("torch."):
            self.problem(type(module).__name__, name)
            return _Part(None)
        return self._traced(module, name)

    def _leaf(self, module: nn.Module, name: str) -> _Part:
        """A module that one layer replaces."""
        try:
            with torch.device("meta"):  # no memory for initial values that are replaced
                layer = self.modules[type(module)](module)
        except ValueError as e:
            self.problem(e, name)
            return _Part(None)
        for tensors in () if layer is None else (layer.params, layer.buffers):
            for key, expected in tensors.items():
                if fault := faults.of_tensor(module, key, expected.shape):
                    self.problem(fault, name)
                else:
                    tensors[key] = self._clone(getattr(module, key), _under(name, key))
        writes = bool(getattr(module, "inplace", False))
        layer = layer and paths.in_mode(layer, module.training)
        return _Part(layer, type(module) in self.memory_sharing or writes, writes)

    def _clone(self, t: Tensor, name: str) -> Tensor:
        if id(t) not in self.clones:
            clone = self.clones[id(t)] = t.detach().clone()
            self.names[id(clone)] = name
        return self.clones[id(t)]

    def _row(self, module: nn.Module, name: str) -> _Part:
        """An nn.Sequential."""
        layers, shares_memory, writes = [], True, False
        for key, child in module._modules.items():  # unlike named_children, this repeats a repeated child
            if child is None:
                self.problem("None", _under(name, key))
                continue
            part = self.part(child, _under(name, key))
            layers += [part.layer] if part.layer else []
            writes |= shares_memory and part.writes
            shares_memory &= part.shares_memory
        return _Part(paths.row(layers, module.training), shares_memory, writes)

    def _traced(self, module: nn.Module, name: str) -> _Part:
        """A module with a forward of its own."""
        what = f"{type(module).__name__}, whose forward"
        try:
            graph, other = _trace(module)
        except Exception as e:  # a forward can raise anything when its input isn't a tensor
            reason = str(e).splitlines()[0] if str(e) else repr(e)
            self.problem(f"{what} can't be traced: {reason}", name)
            return _Part(None)
        before = self._count()
        if _comparable(graph) != _comparable(other):
            self.problem(f"{what} isn't the same in training and evaluation", name)
        calls, part = self._calls(module, name, graph)
        if self._count() > before:
            return _Part(None)
        start, end = next(iter(graph.nodes)), next(iter(reversed(graph.nodes))).args[0]
        try:
            part.layer = paths.between(start, end, calls, module.training)
        except ValueError as e:
            self.problem(f"{what} is of another form: {e}", name)
        return part

    def _calls(self, module: nn.Module, name: str, graph: fx.Graph) -> tuple[paths.Calls, _Part]:
        """The calls of a traced forward, and a _Part without layer that says how it uses x's memory.

        A write in place changes all nodes that share the memory. Layers don't write in place, so a node
        that is read after such a write would have other values here. This is refused. It is found with
        `owner`, node -> the node that its memory belongs to; `writes`, owner -> number of writes so far;
        and `seen`, node -> number of writes to its memory when it was made.
        """
        start, *nodes, end = graph.nodes
        owner, seen, writes = {start: start}, {start: 0}, {start: 0}
        calls: paths.Calls = {}
        for node in nodes:
            if is_size(node):
                continue
            inputs, part, text = [start], _Part(None), node.name
            try:
                inputs, part, text = self._node(module, name, node)
            except Unsupported as e:
                self.problem(e, name)
            inputs = [x if x in owner else start for x in inputs]  # the others are problems already
            if any(seen[x] < writes[owner[x]] for x in inputs):
                self.problem(f"{text} reads what was written to in place", name)
            writes[owner[inputs[0]]] += part.writes
            owner[node] = owner[inputs[0]] if part.shares_memory else node
            seen[node] = writes.setdefault(owner[node], 0)
            calls[node] = inputs, part.layer
        result = end.args[0]
        if not isinstance(result, fx.Node) or result not in owner:
            self.problem("a forward that gives anything but one tensor", name)
            return calls, _Part(None)
        if seen[result] < writes[owner[result]]:
            self.problem("an output that was written to in place", name)
        return calls, _Part(None, owner[result] is start, writes[start] > 0)

    def _node(self, module: nn.Module, name: str, node: fx.Node) -> tuple[list[fx.Node], _Part, str]:
        """(the nodes that it is made from, its conversion, its name). Unsupported if no layer does it."""
        if node.op == "call_module":
            if len(node.args) != 1 or node.kwargs or not isinstance(node.args[0], fx.Node):
                raise Unsupported(f"{node.target} of anything but one tensor")
            path = _under(name, str(node.target))
            return [node.args[0]], self.part(module.get_submodule(str(node.target)), path), path
        if node.op == "get_attr":
            raise Unsupported(f"{node.target} in its forward")
        call = call_name(node)
        if call in ADD:
            if len(node.args) != 2 or node.kwargs or not all(isinstance(a, fx.Node) for a in node.args):
                raise Unsupported(f"{call} of anything but two tensors")
            return [a for a in node.args if isinstance(a, fx.Node)], _Part(None, ADD[call], ADD[call]), call
        if call not in self.calls:
            raise Unsupported(call)
        nodes = [x for x in node.all_input_nodes if not is_size(x)]
        try:
            equivalent = self.calls[call](*node.args, **node.kwargs)
        except TypeError:
            equivalent = None
        if equivalent is None or len(nodes) != 1:
            raise Unsupported(f"{call} with {', '.join(map(str, node.args[1:]))}")
        part = self._leaf(equivalent.train(module.training), name)
        if call in self.inplace_calls:
            part.shares_memory = part.writes = True
        return nodes, part, call


def _under(name: str, key: str) -> str:
    """The name of a module's child."""
    return f"{name}.{key}" if name else key


def _trace(module: nn.Module) -> tuple[fx.Graph, fx.Graph]:
    """The calls in a module's forward: (in its current mode, in the other mode).

    ValueError unless forward has exactly one required input. The other inputs get their defaults.
    """
    inputs = inspect.signature(module.forward).parameters.values()
    required = [p for p in inputs if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    if len(required) != 1:
        raise ValueError(f"it takes {len(required)} inputs")
    defaults = {p.name: p.default for p in inputs if p.default is not p.empty}
    mode = module.training
    try:
        graph = _Tracer().trace(module, defaults)
        module.training = not mode
        other = _Tracer().trace(module, defaults)
    finally:
        module.training = mode
    for traced in (graph, other):
        for node in [node for node in traced.nodes if node.op == "placeholder"][1:]:
            for user in [*node.users]:  # torch.fx adds assertions that the input has its default
                for last in [*user.users, user]:
                    traced.erase_node(last)
            traced.erase_node(node)
    return graph, other


def _comparable(graph: fx.Graph) -> list[tuple]:
    """The nodes of a graph in a form that can be compared with another graph's.

    F.dropout is left out: it differs between the modes, and is refused elsewhere with a clearer reason.
    """
    nodes = (n for n in graph.nodes if call_name(n) != "dropout")
    return [(n.op, n.target, str(n.args), str(n.kwargs)) for n in nodes]
