"""Bring your own model: a torch.nn module becomes layers of ours, with the same weights.

A module that has a layer here becomes it, and nn.Sequential a Sequential. The forward of any other
module is traced (torch.fx): what it calls in a row is a Sequential, and a sum of two ways from one
place a Residual (paths.py).

    from nets.convert.from_torch import from_torch
    net = from_torch(torchvision.models.resnet18())
"""

import inspect
import operator
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from nets.common.errors import ModuleError, Unsupported
from nets.convert import paths
from nets.convert.torch_parts import ADD, SAME, WRITE, call_name, calls, modules
from nets.layers.activations import Scale
from nets.layers.base import Layer
from nets.layers.registry import is_size


class _Proxy(fx.Proxy):
    """x += y as what it is: torch.fx takes it for x = x + y."""

    def __iadd__(self, other):
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __imul__(self, other):
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m, name):
        return True  # each is asked by itself

    def proxy(self, node):
        return _Proxy(node, self)


@dataclass
class _Part:
    """A module's layer, None for y = x; and whether y is, or may be, x's memory, or is written there."""

    layer: Layer | None
    same: bool = False
    writes: bool = False


def from_torch(module: nn.Module) -> Layer:
    """A torch.nn module as one of our layers or nets, with clones of its weights and statistics.

    Known are the modules that the layers list in torch_types, nn.Sequential, and any module whose forward is made of known
    modules, of the calls in torch_calls and of sums, and can be traced; torchvision's AlexNet, VGGs and
    ResNets are. Each part's training or evaluation mode is kept, and what is shared stays shared.
    All parameters are trained here, those too that ask for no gradient there.

    The net's `torch_names` says what each of its params and buffers is called in the module.
    ModuleError, a ValueError, names every part that no layer is for.
    """
    if not isinstance(module, nn.Module):
        raise ModuleError(f"{module!r} is no torch.nn.Module")
    made = _Maker()
    layer = made.part(module, "").layer or Scale(1.0)
    if made.problems:
        parts = "; ".join(f"{what} ({', '.join(where)})" for what, where in made.problems.items())
        raise ModuleError(f"no layer here is for these parts of {type(module).__name__}: {parts}")
    layer.torch_names = {name: made.names[id(t)] for name, t in (layer.params | layer.buffers).items()}
    return layer


class _Maker:
    def __init__(self):
        self.problems: dict[str, dict[str, None]] = {}  # what -> where, in order
        self.names: dict[int, str] = {}  # id of one of our tensors -> its name in torch
        self.parts, self.clones = {}, {}  # by id of a module, of a tensor
        self.modules, self.calls = modules(), calls()

    def problem(self, what, name: str):
        self.problems.setdefault(str(what), {})[name or "itself"] = None

    def _count(self) -> int:
        return sum(map(len, self.problems.values()))

    def part(self, module: nn.Module, name: str) -> _Part:
        if id(module) not in self.parts:
            part = self._new(module, name)
            if part.layer is None or not (part.layer.params or part.layer.buffers):
                return part  # two layers without weights may as well be two
            self.parts[id(module)] = part
        return self.parts[id(module)]

    def _new(self, module, name) -> _Part:
        if module._forward_hooks or module._forward_pre_hooks:
            self.problem(f"{type(module).__name__} with hooks", name)
        if "forward" in vars(module):  # not its class's
            self.problem(f"{type(module).__name__} with a forward put into it", name)
        if type(module) in self.modules:
            return self._leaf(module, name)
        if type(module).forward is nn.Sequential.forward:
            return self._row(module, name)
        if type(module).__module__.startswith("torch."):
            self.problem(type(module).__name__, name)
            return _Part(None)
        return self._traced(module, name)

    def _leaf(self, module, name) -> _Part:
        try:
            with torch.device("meta"):  # its start values are never seen
                layer = self.modules[type(module)](module)
        except ValueError as e:
            self.problem(e, name)
            return _Part(None)
        for tensors in () if layer is None else (layer.params, layer.buffers):
            for key in tensors:
                tensors[key] = self._clone(getattr(module, key), _under(name, key))
        writes = getattr(module, "inplace", False)
        layer = layer and paths.in_mode(layer, module.training)
        return _Part(layer, isinstance(module, SAME) or writes, writes)

    def _clone(self, t: Tensor, name: str) -> Tensor:
        if id(t) not in self.clones:
            clone = self.clones[id(t)] = t.detach().clone()
            self.names[id(clone)] = name
        return self.clones[id(t)]

    def _row(self, module, name) -> _Part:
        found, same, writes = [], True, False
        for key, child in module._modules.items():  # one that stands there twice, too, twice
            part = self.part(child, _under(name, key))
            found += [part.layer] if part.layer else []
            writes |= same and part.writes
            same &= part.same
        return _Part(paths.row(found, module.training), same, writes)

    def _traced(self, module, name) -> _Part:
        what = f"{type(module).__name__}, whose forward"
        try:
            graph, other = _trace(module)
        except Exception as e:  # a forward may do anything with what isn't a tensor
            reason = str(e).splitlines()[0] if str(e) else repr(e)
            self.problem(f"{what} can't be traced: {reason}", name)
            return _Part(None)
        before = self._count()
        if _calls(graph) != _calls(other):
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

    def _calls(self, module, name, graph):
        """Each node of a traced forward: what it is made from, and its layer; and whether x is written to.

        A write changes what others see that have the same memory. `home` is the node whose memory a
        node has, `seen` how often that had been written to by then: who is read later than a write
        that came after it would be read with other numbers than ours, and is refused.
        """
        start, *nodes, end = graph.nodes
        home, seen, writes, calls = {start: start}, {start: 0}, {start: 0}, {}
        for node in nodes:
            if is_size(node):
                continue
            read, part, text = [start], _Part(None), node.name
            try:
                read, part, text = self._node(module, name, node)
            except Unsupported as e:
                self.problem(e, name)
            read = [x if x in home else start for x in read]  # a size, say: has been named above
            if any(seen[x] < writes[home[x]] for x in read):
                self.problem(f"{text} reads what was written to in place", name)
            writes[home[read[0]]] += part.writes
            home[node] = home[read[0]] if part.same else node
            seen[node] = writes.setdefault(home[node], 0)
            calls[node] = read, part.layer
        result = end.args[0]
        if not isinstance(result, fx.Node) or result not in home:
            self.problem("a forward that gives anything but one tensor", name)
            return calls, _Part(None)
        if seen[result] < writes[home[result]]:
            self.problem("an output that was written to in place", name)
        return calls, _Part(None, home[result] is start, writes[start] > 0)

    def _node(self, module, name, node) -> tuple[list[fx.Node], _Part, str]:
        """(what it is made from, its part, its name)"""
        if node.op == "call_module":
            if len(node.args) != 1 or node.kwargs or not isinstance(node.args[0], fx.Node):
                raise Unsupported(f"{node.target} of anything but one tensor")
            path = _under(name, node.target)
            return [node.args[0]], self.part(module.get_submodule(node.target), path), path
        if node.op == "get_attr":
            raise Unsupported(f"{node.target} in its forward")
        call = call_name(node)
        if call in ADD:
            if len(node.args) != 2 or node.kwargs or not all(isinstance(a, fx.Node) for a in node.args):
                raise Unsupported(f"{call} of anything but two tensors")
            return list(node.args), _Part(None, ADD[call], ADD[call]), call
        if call not in self.calls:
            raise Unsupported(call)
        nodes = [x for x in node.all_input_nodes if not is_size(x)]
        try:
            stand_in = self.calls[call](*node.args, **node.kwargs)
        except TypeError:
            stand_in = None
        if stand_in is None or len(nodes) != 1:
            raise Unsupported(f"{call} with {', '.join(map(str, node.args[1:]))}")
        part = self._leaf(stand_in.train(module.training), name)
        if call in WRITE:
            part.same = part.writes = True
        return nodes, part, call


def _under(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _trace(module: nn.Module) -> tuple[fx.Graph, fx.Graph]:
    """What a module's own forward calls, in its own mode and in the other one."""
    inputs = inspect.signature(module.forward).parameters.values()
    needed = [p for p in inputs if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    if len(needed) != 1:
        raise ValueError(f"it takes {len(needed)} inputs")
    given = {p.name: p.default for p in inputs if p.default is not p.empty}
    mode, graphs = module.training, []
    try:
        for module.training in (mode, not mode):
            graphs.append(_Tracer().trace(module, given))
    finally:
        module.training = mode
    for graph in graphs:
        for node in [node for node in graph.nodes if node.op == "placeholder"][1:]:
            for user in [*node.users]:  # what asserts that it is given as it was here
                for last in [*user.users, user]:
                    graph.erase_node(last)
            graph.erase_node(node)
    return tuple(graphs)


def _calls(graph: fx.Graph) -> list:
    """A graph, to compare with another one. F.dropout is refused anyway, with a better reason."""
    some = (n for n in graph.nodes if call_name(n) != "dropout")
    return [(n.op, n.target, str(n.args), str(n.kwargs)) for n in some]
