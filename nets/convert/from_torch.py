"""Conversion from torch: a torch.nn module becomes a net of this project's layers, with the same weights.

A module that a layer lists in torch_types becomes that layer, and nn.Sequential becomes a Sequential. The
forward of any other module is traced (trace.py): consecutive calls become a Sequential, a sum of two paths
becomes a Residual, and any other part a Graph (paths.py).

    from nets.convert.from_torch import from_torch
    net = from_torch(torchvision.models.resnet18())
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from nets.common.errors import ModuleError, Unsupported
from nets.convert import faults, paths
from nets.convert.operands import Operands
from nets.convert.refusal import Problems
from nets.convert.torch_parts import (
    call_name,
    calls,
    inplace_calls,
    memory_sharing_modules,
    modules,
    tensor_calls,
)
from nets.convert.trace import Traced, trace
from nets.layers.activations import Scale
from nets.layers.base import Layer
from nets.layers.graph import Graph, GraphModule
from nets.layers.parameter import Parameter
from nets.layers.registry import Mode

SEVERAL = ("chunk", "split", "unbind")  # calls that give several tensors


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

    The net's `torch_names` maps the names of its params and buffers to the names in the module's state_dict.
    A constant of the forward, which the state_dict lacks, is a buffer without such a name.
    ModuleError, a ValueError, names every part that isn't supported.
    """
    if isinstance(module, Mapping):
        load = "load it into its model with load_state_dict, and convert that"
        raise ModuleError(f"from_torch takes a torch.nn.Module, not a state dict; {load}")
    if not isinstance(module, nn.Module):
        what = module if isinstance(module, type) else type(module)
        raise ModuleError(f"from_torch takes a torch.nn.Module; {what.__name__} is no torch.nn.Module")
    converter = _Converter(module)
    for what in faults.everywhere():
        converter.problems.add(what, "")
    layer = converter.part(module, "").layer or Scale(1.0)
    if len(converter.problems):
        raise converter.problems.error(type(module).__name__)
    names, state = converter.names, module.state_dict(keep_vars=True)
    tensors = layer.params | layer.buffers
    layer.torch_names = {name: names[id(t)] for name, t in tensors.items() if names[id(t)] in state}
    return layer


class _Converter:
    """Converts a module and its children, and collects all problems on the way.

    problems  what isn't supported
    names     id of a layer's tensor -> its name in the module
    """

    def __init__(self, module: nn.Module):
        self.problems = Problems()
        self.names: dict[int, str] = {}
        self.parts: dict[int, _Part] = {}  # by id of a module
        self.clones: dict[int, Tensor] = {}  # by id of a tensor
        state = module.state_dict(keep_vars=True)
        self.named = {id(t): name for name, t in reversed(state.items())}  # the first of several names
        self.traces: dict[int, Traced | Exception] = {}  # by id of a module
        self.bare: dict[fx.Node, Tensor] = {}  # parameters that a forward uses by themselves
        self.modules, self.calls, self.tensor_calls = modules(), calls(), tensor_calls()
        self.memory_sharing, self.inplace_calls = memory_sharing_modules(), inplace_calls()

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
            self.problems.add(what, name)
        if type(module) in self.modules and not faults.is_scripted(module):
            return self._leaf(module, name)
        if isinstance(module, fx.GraphModule):
            return self._traced(module, name)
        if found and type(module).__module__.startswith("torch."):
            return _Part(None)
        if type(module).forward is nn.Sequential.forward:
            return self._row(module, name)
        if type(module) is GraphModule:
            return self._graph(module, name)
        if type(module).__module__.startswith("torch."):
            self.problems.add(type(module).__name__, name)
            return _Part(None)
        return self._traced(module, name)

    def _leaf(self, module: nn.Module, name: str) -> _Part:
        """A module that one layer replaces."""
        try:
            with torch.device("meta"):  # no memory for initial values that are replaced
                layer = self.modules[type(module)](module)
        except ValueError as e:
            self.problems.add(e, name)
            return _Part(None)
        for tensors in () if layer is None else (layer.params, layer.buffers):
            for key, expected in tensors.items():
                if fault := faults.of_tensor(module, key, expected.shape):
                    self.problems.add(fault, name)
                else:
                    tensors[key] = self._clone(getattr(module, key), _under(name, key))
        writes = bool(getattr(module, "inplace", False))
        layer = layer and paths.in_mode(layer, module.training)
        return _Part(layer, type(module) in self.memory_sharing or writes, writes)

    def _clone(self, t: Tensor, name: str) -> Tensor:
        if id(t) not in self.clones:
            clone = self.clones[id(t)] = t.detach().clone()
            self.names[id(clone)] = self.named.get(id(t), name)
        return self.clones[id(t)]

    def _row(self, module: nn.Module, name: str) -> _Part:
        """An nn.Sequential."""
        layers, shares_memory, writes = [], True, False
        for key, child in module._modules.items():  # unlike named_children, this repeats a repeated child
            if child is None:
                self.problems.add("None", _under(name, key))
                continue
            part = self.part(child, _under(name, key))
            layers += [part.layer] if part.layer else []
            writes |= shares_memory and part.writes
            shares_memory &= part.shares_memory
        return _Part(paths.row(layers, module.training), shares_memory, writes)

    def _graph(self, module: GraphModule, name: str) -> _Part:
        """The module of a Graph, as to_torch makes it."""
        sources, inputs, outputs = module.graph
        nodes = {
            key: (self.part(module.get_submodule(key), _under(name, key)).layer or Scale(1.0), *names)
            for key, names in sources.items()
        }
        return _Part(paths.in_mode(Graph(nodes, inputs, outputs), module.training))

    def _trace(self, module: nn.Module) -> Traced | Exception:
        """The module's calls, or why it can't be traced."""
        if id(module) not in self.traces:
            try:
                self.traces[id(module)] = trace(module, self._is_one_tensor)
            except Exception as e:  # a forward can raise anything when its input isn't a tensor
                self.traces[id(module)] = e
        return self.traces[id(module)]

    def _is_one_tensor(self, module: nn.Module) -> bool:
        """Whether a module gives one tensor, as far as this is known."""
        known = type(module) in self.modules or type(module).forward is nn.Sequential.forward
        if known or isinstance(getattr(module, "_orig_mod", None), nn.Module):
            return True
        traced = self._trace(module)
        return isinstance(traced, Exception) or isinstance(traced.result, fx.Node)

    def _traced(self, module: nn.Module, name: str) -> _Part:
        """A module with a forward of its own."""
        what, traced = f"{type(module).__name__}, whose forward", self._trace(module)
        if isinstance(traced, Exception):
            reason = str(traced).splitlines()[0] if str(traced) else repr(traced)
            self.problems.add(f"{what} can't be traced: {reason}", name)
            return _Part(None)
        before = len(self.problems)
        for inlined in traced.inlined:
            for fault in faults.of_module(inlined):
                self.problems.add(fault, name)
        if traced.differs:
            self.problems.add(f"{what} isn't the same in training and evaluation", name)
        results = traced.result if isinstance(traced.result, tuple) and name == "" else (traced.result,)
        ends = [end for end in results if isinstance(end, fx.Node)]
        if len(ends) < len(results):
            self.problems.add("a forward that gives anything but one tensor", name)
            return _Part(None)
        calls, part = self._calls(module, name, traced, ends)
        if len(self.problems) > before:
            return _Part(None)
        try:
            if len(traced.starts) == len(ends) == 1:
                part.layer = paths.between(traced.starts[0], ends[0], calls, module.training)
            else:
                one = not isinstance(traced.result, tuple)
                part.layer = paths.whole(traced.starts, ends, one, calls, module.training)
        except ValueError as e:
            self.problems.add(f"{what} is of another form: {e}", name)
        return part

    def _calls(
        self, module: nn.Module, name: str, traced: Traced, ends: list[fx.Node]
    ) -> tuple[paths.Calls, _Part]:
        """The calls of a traced forward, and a _Part without layer that says how it uses x's memory.

        A write in place changes all nodes that share the memory. Layers don't write in place, so a node
        that is read after such a write would have other values here. This is refused. It is found with
        `owner`, node -> the node that its memory belongs to; `writes`, owner -> number of writes so far;
        and `seen`, node -> number of writes to its memory when it was made.
        """
        start, operands = traced.starts[0], Operands()
        owner = {x: x for x in traced.starts}
        seen, writes = dict.fromkeys(traced.starts, 0), dict.fromkeys(traced.starts, 0)
        operands.samples = {x: x for x in traced.starts}
        calls: paths.Calls = {}
        for node in traced.nodes:
            inputs, part, text = [start], _Part(None), node.name
            try:
                if operands.is_size(node) or call_name(node) in SEVERAL:
                    continue  # what takes it says more
                inputs, part, text = self._node(module, name, node, traced, operands)
            except Unsupported as e:
                self.problems.add(e, name, node.meta.get("line", ""))
            inputs = [x if x in owner else start for x in inputs]  # the others are problems already
            if any(seen[x] < writes[owner[x]] for x in inputs):
                self.problems.add(
                    f"{text} reads what was written to in place", name, node.meta.get("line", "")
                )
            if part.writes and inputs:
                writes[owner[inputs[0]]] += 1
            owner[node] = owner[inputs[0]] if part.shares_memory and inputs else node
            seen[node] = writes.setdefault(owner[node], 0)
            keeps = inputs and (part.layer is None or part.layer.keeps_samples)
            same = {operands.samples[x] for x in inputs}
            operands.samples[node] = same.pop() if keeps and len(same) == 1 else node
            calls[node] = inputs, part.layer
        for end in ends:
            if end not in owner:
                self.problems.add("a forward that gives anything but tensors", name)
            elif seen[end] < writes[owner[end]]:
                self.problems.add("an output that was written to in place", name)
        return calls, _Part(None, owner.get(ends[0]) is start, writes[start] > 0)

    def _node(
        self, module: nn.Module, name: str, node: fx.Node, traced: Traced, operands: Operands
    ) -> tuple[list[fx.Node], _Part, str]:
        """(the nodes that it is made from, its conversion, its name). Unsupported if no layer does it."""
        if node.op == "call_module":
            if len(node.args) != 1 or node.kwargs or not isinstance(node.args[0], fx.Node):
                kind = type(module.get_submodule(str(node.target))).__name__
                raise Unsupported(f"{kind} of anything but one tensor")
            path = _under(name, str(node.target))
            return [node.args[0]], self.part(module.get_submodule(str(node.target)), path), path
        if node.op == "get_attr":
            return [], self._bare(module, name, node, traced.constants), node.name
        call, (given, options) = call_name(node), node.meta["arguments"]
        if call == "getitem" and call_name(given[0]) in SEVERAL:
            (parts, index), call = given, call_name(given[0])
            given, options = parts.meta["arguments"][0], parts.meta["arguments"][1] | {"index": index}
        make = self.calls.get(call)
        if call in self.tensor_calls:
            given, options = map_arg((given, options), lambda x: self.bare.get(x, x))
            make = self.tensor_calls[call]
        if make is None:
            raise Unsupported(call)
        inputs, (args, kwargs) = operands.split((given, options))
        equivalent, shown = None, ", ".join([*map(str, args[1:]), *(f"{k}={v}" for k, v in kwargs.items())])
        try:
            equivalent = make(*args, **kwargs)
        except (TypeError, ValueError) as e:
            if isinstance(e, Unsupported):
                raise
        if equivalent is None:
            raise Unsupported(f"{call} with {shown}")
        if isinstance(equivalent, nn.Identity):
            return inputs[:1], _Part(None, True), call
        modes = [arg.training for arg in (*args, *kwargs.values()) if isinstance(arg, Mode)]
        equivalent.train(modes[0] if modes else module.training)
        part = self._leaf(equivalent, name)
        if part.layer is not None and part.layer.num_inputs not in (None, len(inputs)):
            raise Unsupported(f"{call} with {shown}")
        if call in self.inplace_calls:
            part.shares_memory = part.writes = True
        return inputs, part, call

    def _bare(self, module: nn.Module, name: str, node: fx.Node, constants: dict[str, Tensor]) -> _Part:
        """A tensor of the module that its forward uses by itself."""
        target = str(node.target)
        t: Any = constants[target] if target in constants else operator.attrgetter(target)(module)
        trained = isinstance(t, nn.Parameter)
        if not isinstance(t, Tensor) or getattr(t, "_backward_hooks", None):
            raise Unsupported(f"{target} in its forward")
        with torch.device("meta"):
            layer = Parameter(tuple(t.shape), trained)
        if trained:
            self.bare[node] = t
        tensors = layer.params if trained else layer.buffers
        tensors["weight"] = self._clone(t, _under(name, target))
        return _Part(paths.in_mode(layer, module.training))


def _under(name: str, key: str) -> str:
    """The name of a module's child."""
    return f"{name}.{key}" if name else key
