"""Graph: layers that form any acyclic graph, with one or several inputs and outputs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nets.common.errors import BatchError
from nets.layers.arithmetic import Add, Mul
from nets.layers.base import Layer, run_backward
from nets.layers.containers import Net
from nets.layers.linear import Linear
from nets.layers.registry import register

Tensors = Tensor | tuple[Tensor | None, ...]


def _diamond() -> "Graph":
    """y = (a·b) + a with a = Linear(x), b = Linear(a): values that are used twice, and x used once."""
    return Graph(
        {
            "a": (Linear(6, 4), "x"),
            "b": (Linear(4, 4), "a"),
            "product": (Mul(), "a", "b"),
            "sum": (Add(), "product", "a"),
        }
    )


@register
class Graph(Net):
    """Values by name, each made by a layer from earlier ones: v_k = f_k(v_i, v_j, …).

    nodes    name of a value -> (layer, names of the values that it takes), in an order in which
             every value comes after those that it is made from
    inputs   names of the inputs, in the order of forward's arguments
    outputs  the name of the value that forward returns, or a tuple of names for a tuple of tensors. By
             default the last value.

    Backward goes through the values in reverse. A value that is used in several places has the sum of their
    gradients, dL/dv = Σ_k (∂v_k/∂v)ᵀ dL/dv_k. It is complete when the value's own layer is reached, because
    all its uses come later in the order. Forward drops a value after its last use, and backward drops what
    a layer has saved as soon as it is used, so only what a layer saves outlives its neighbors.

    With several inputs forward is `forward(x1, x2, …)` and dx a tuple; with several outputs, y and dy are
    tuples, where None in dy is a gradient of 0. A layer with several inputs has the same contract: a tuple
    of gradients, one for each input, None for an input without one. Parameters are called `name.parameter`.
    ValueError if a value is unknown, made twice or unused, or if a layer takes another number of inputs.
    Source: Linnainmaa 1970, reverse accumulation over a graph of operations.
    """

    nested = ("nodes",)
    examples = [((5, 6), _diamond)]

    def __init__(
        self,
        nodes: Mapping[str, Sequence],
        inputs: Sequence[str] = ("x",),
        outputs: str | Sequence[str] | None = None,
    ):
        super().__init__(**{name: node[0] for name, node in nodes.items()})
        self.sources = {name: tuple(node[1:]) for name, node in nodes.items()}
        self.inputs = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        outputs = list(nodes)[-1] if outputs is None else outputs
        self.outputs: str | tuple[str, ...] = outputs if isinstance(outputs, str) else tuple(outputs)
        self._check()
        self._last_used = self._find_last_uses()

    def _check(self):
        """ValueError unless the values form a graph in which each is made before it is used."""
        known, used = set(self.inputs), set(self._output_names())
        for name, sources in self.sources.items():
            if name in known or "." in name or not name or hasattr(nn.Module(), name):
                raise ValueError(f'Graph: "{name}" can\'t be the name of a value')
            if unknown := [source for source in sources if source not in known]:
                raise ValueError(f'Graph: {name} takes "{unknown[0]}", which no earlier value is called')
            takes = self.children[name].num_inputs
            if not sources or takes not in (None, len(sources)):
                kind = type(self.children[name]).__name__
                raise ValueError(f"Graph: {name} ({kind}) takes {takes or 1} inputs, not {len(sources)}")
            known.add(name)
            used.update(sources)
        if unknown := [name for name in self._output_names() if name not in known]:
            raise ValueError(f'Graph: no value is called "{unknown[0]}"')
        if unused := [name for name in self.sources if name not in used]:
            raise ValueError(f"Graph: {', '.join(unused)} isn't used")

    def _output_names(self) -> tuple[str, ...]:
        return (self.outputs,) if isinstance(self.outputs, str) else self.outputs

    def _find_last_uses(self) -> dict[str, tuple[str, ...]]:
        """Name of a value -> the values that are used for the last time to make it."""
        last = {source: name for name, sources in self.sources.items() for source in sources}
        found: dict[str, list[str]] = {name: [] for name in self.sources}
        for source, name in last.items():
            if source not in self._output_names():
                found[name].append(source)
        return {name: tuple(sources) for name, sources in found.items()}

    @property
    def num_inputs(self) -> int:  # type: ignore[override]
        """The number of forward's arguments."""
        return len(self.inputs)

    def forward(self, *xs: Tensor) -> tuple[Any, list]:
        if len(xs) != len(self.inputs):
            raise BatchError(f"Graph takes {len(self.inputs)} inputs, not {len(xs)}")
        values, saved = dict(zip(self.inputs, xs)), []
        for name, sources in self.sources.items():
            values[name], s = self.children[name].forward(*(values[source] for source in sources))
            saved.append(s)
            for source in self._last_used[name]:
                del values[source]
        if isinstance(self.outputs, str):
            return values[self.outputs], saved
        return tuple(values[name] for name in self.outputs), saved

    def backward(
        self,
        saved,
        dy: Tensors,
        *,
        input_grad: bool = True,
        keep: bool = False,
        frozen: frozenset[str] = frozenset(),
        on_grads: Callable[[dict[str, Tensor]], None] | None = None,
    ):
        """(dx, grads), with the options of Sequential.backward. Values without a trained layer before them
        get no gradient if input_grad is False."""
        saved, grads = self._take_saved(saved, keep), {}
        wanted = self._wanted(input_grad, frozen)
        dys: dict[str, Tensor] = {}
        _accumulate(dys, self._output_names(), (dy,) if isinstance(dy, Tensor) else dy, wanted)
        for name in reversed(self.sources):
            layer, sources, s = self.children[name], self.sources[name], saved.pop()
            if name not in wanted:
                continue
            if name in dys:
                flows = not layer.constant and not wanted.isdisjoint(sources)
                dx, new = run_backward(layer, s, dys.pop(name), flows, keep)
                if flows:
                    _accumulate(dys, sources, dx if layer.num_inputs != 1 else (dx,), wanted)
            else:  # its output has no gradient
                new = {k: torch.zeros_like(t) for k, t in layer.params.items()}
            del s
            self._collect(grads, name, new)
            grads = self._hand_over(grads, name, new, frozen, on_grads)
        if not input_grad:
            return None, grads
        dxs = [dys.get(name) for name in self.inputs]
        return (tuple(dxs) if len(dxs) > 1 else dxs[0]), grads

    def _wanted(self, input_grad: bool, frozen: frozenset[str]) -> set[str]:
        """The values whose gradients are needed: those that depend on an input or on a trained parameter."""
        wanted = set(self.inputs) if input_grad else set()
        for name, sources in self.sources.items():
            trained = any(self._names[f"{name}.{k}"] not in frozen for k in self.children[name].params)
            if trained or not wanted.isdisjoint(sources):
                wanted.add(name)
        return wanted

    def with_children(self, children: dict[str, Layer]) -> "Graph":
        """A new Graph of these layers in the places of this one's, in the same mode."""
        nodes = {name: (children[name], *sources) for name, sources in self.sources.items()}
        net = Graph(nodes, self.inputs, self.outputs)
        net.training = self.training
        return net

    def to_torch(self, **children):
        return GraphModule(children, self.sources, self.inputs, self.outputs)

    def __repr__(self):
        lines = []
        for name, child in self.children.items():
            layer = repr(child).replace("\n", "\n  ")
            lines.append(f"  ({name}): {layer} of {', '.join(self.sources[name])}")
        return "\n".join(["Graph(", *lines, ")"])


def _accumulate(dys: dict[str, Tensor], names: Iterable[str], new: Iterable[Tensor | None], wanted: set[str]):
    """Add gradients to those of the values that are wanted. Out of place: a gradient may be dy itself."""
    for name, g in zip(names, new, strict=True):
        if g is not None and name in wanted:
            dys[name] = dys[name] + g if name in dys else g


class GraphModule(nn.Module):
    """Graph as a torch.nn module."""

    def __init__(
        self,
        children: Mapping[str, nn.Module],
        sources: Mapping[str, tuple[str, ...]],
        inputs: tuple[str, ...],
        outputs: str | tuple[str, ...],
    ):
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)
        self.graph = (dict(sources), inputs, outputs)

    def forward(self, *xs: Tensor):
        sources, inputs, outputs = self.graph
        values = dict(zip(inputs, xs, strict=True))
        for name, of in sources.items():
            values[name] = self.get_submodule(name)(*(values[source] for source in of))
        return values[outputs] if isinstance(outputs, str) else tuple(values[name] for name in outputs)
