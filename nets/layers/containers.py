"""Nets are layers: in a row (Sequential) or around (Residual), under the same contract.

A net's `saved` is a list that backward empties from its end, so that memory is freed as backward
goes. With `keep=True` it stays whole, for a second backward.
"""

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from nets.common.errors import SavedError
from nets.layers.base import Layer, run_backward
from nets.layers.registry import LAYERS, register


class Net(Layer):
    """A layer made of named layers. A subclass defines forward and backward.

    A parameter is called `child.name`. One that occurs twice, because the same layer or the same
    tensor is used in two places, is listed once, under its first name. Its gradient is the sum over
    the places: dL/dw = Σ_k dL/dw_k, the chain rule for w_1 = w_2 = … = w.

    backward takes `input_grad` (False: dx isn't wanted) and `keep` (True: leave saved whole).
    """

    def __init__(self, **children: Layer):
        if not children:
            raise ValueError(f"{type(self).__name__} needs a layer")
        for name, child in children.items():
            if not isinstance(child, Layer):
                raise TypeError(f"{type(self).__name__}: {name} is {child!r}, not a Layer")
        self.children = children
        self.training = True
        first: dict[int, str] = {}
        self._names = {  # every place's name -> the name under which it is listed
            f"{child}.{name}": first.setdefault(id(t), f"{child}.{name}")
            for child, layer in children.items()
            for name, t in (layer.params | layer.buffers).items()
        }

    def _listed(self, kind: str) -> dict[str, Tensor]:
        return {
            f"{child}.{name}": t
            for child, layer in self.children.items()
            for name, t in getattr(layer, kind).items()
            if self._names[f"{child}.{name}"] == f"{child}.{name}"
        }

    @property
    def params(self) -> dict[str, Tensor]:  # type: ignore[override]
        return self._listed("params")

    @property
    def buffers(self) -> dict[str, Tensor]:  # type: ignore[override]
        return self._listed("buffers")

    def backward(self, saved, dy: Tensor, input_grad: bool = True, keep: bool = False):
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def is_leaf(self):
        return False

    def leaves(self):
        return [leaf for child in self.children.values() for leaf in child.leaves()]

    def walk(self):
        seen = set()
        yield self
        for child in self.children.values():
            for layer in child.walk():
                if id(layer) not in seen:
                    seen.add(id(layer))
                    yield layer

    def _collect(self, grads: dict[str, Tensor], child: str, new: dict[str, Tensor]):
        """Add one child's gradients to the net's own."""
        for name, g in new.items():
            name = self._names[f"{child}.{name}"]
            grads[name] = grads[name] + g if name in grads else g

    def _to_spend(self, saved: list, keep: bool) -> list:
        """What backward may empty. SavedError where an earlier backward has emptied it."""
        if len(saved) != len(self.children):
            raise SavedError(
                f"{type(self).__name__}: an earlier backward has freed what this forward saved;"
                " give that one keep=True, or call forward again"
            )
        return list(saved) if keep else saved

    def __repr__(self):
        lines = [
            f"  ({name}): {repr(child).replace(chr(10), chr(10) + '  ')}"
            for name, child in self.children.items()
        ]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])


@register
class Sequential(Net):
    """y = f_n(… f_2(f_1(x))). Backward is the chain rule, from the last layer to the first.

    With `recompute` a layer that saves its x (a convolution) drops it where the layer before can
    compute it again from what it has saved itself (an activation, a norm): less memory for a little
    work. Source: Chen et al. 2016, "Training deep nets with sublinear memory cost".
    """

    nested = ("layers",)
    examples = [((5, 6), lambda: Sequential(LAYERS["Linear"](6, 5), LAYERS["Linear"](5, 3)))]

    def __init__(self, *layers: Layer, recompute: bool = False):
        super().__init__(**{str(i): layer for i, layer in enumerate(layers)})
        self.recompute = recompute

    def forward(self, x: Tensor):
        saved, before = [], None
        for layer in self.children.values():
            y, s = layer.forward(x)
            saved.append(layer.drop_input(s) if self._drops(before, layer) else s)
            x, before = y, layer
        return x, saved

    def backward(
        self,
        saved,
        dy: Tensor,
        input_grad: bool = True,
        keep: bool = False,
        frozen: frozenset[str] = frozenset(),
        on_grads: Callable[[dict[str, Tensor]], None] | None = None,
    ):
        """frozen: names of parameters whose gradient isn't wanted. on_grads: called with a layer's gradients
        as soon as they are complete; they are then left out of grads.

        Without input_grad the first layers that have nothing to train get no backward.
        """
        saved, grads = self._to_spend(saved, keep), {}
        children = list(self.children.items())
        first = 0 if input_grad else self._first_trained(frozen)  # nothing before it is wanted
        for i in reversed(range(first, len(children))):
            name, layer = children[i]
            self._recompute_input(saved, i)
            dy, new = run_backward(layer, saved.pop(), dy, input_grad or i > first, keep)
            self._collect(grads, name, new)
            if frozen:
                grads = {k: g for k, g in grads.items() if k not in frozen}
            if (
                on_grads and new
            ):  # a tensor used in an earlier place too isn't complete yet: not in grads by this name
                on_grads({k: grads.pop(k) for n in new if (k := f"{name}.{n}") in grads})
        saved.clear()
        return dy if input_grad else None, grads

    def _first_trained(self, frozen: frozenset[str]) -> int:
        """The first child with a parameter that isn't frozen."""
        for i, (child, layer) in enumerate(self.children.items()):
            if any(self._names[f"{child}.{name}"] not in frozen for name in layer.params):
                return i
        return len(self.children)

    def _drops(self, before: Layer | None, layer: Layer) -> bool:
        """Is the layer's x dropped in forward, to be computed again in backward?"""
        return self.recompute and before is not None and before.recomputes_output() and layer.saves_input()

    def _recompute_input(self, saved: list, i: int):
        """Put layer i's x back where forward dropped it."""
        layers = list(self.children.values())
        if i and self._drops(layers[i - 1], layers[i]):
            self._recompute_input(saved, i - 1)
            saved[i] = layers[i].add_input(saved[i], layers[i - 1].output(saved[i - 1]))

    def with_children(self, children: dict[str, Layer]) -> "Sequential":
        """Another Sequential of these layers, under the names that they have here."""
        net = Sequential.__new__(Sequential)
        Net.__init__(net, **children)
        net.recompute, net.training = self.recompute, self.training
        return net

    def to_torch(self, **children):
        return nn.Sequential(*children.values())

    def __len__(self) -> int:
        return len(self.children)

    def __getitem__(self, i: int) -> Layer:
        return list(self.children.values())[i]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.children.values())


@register
class Residual(Net):
    """y = body(x) + shortcut(x), the shortcut being x itself unless a layer is given.

    x takes two ways, so its gradient is the sum of two: dx = body'ᵀ dy + shortcut'ᵀ dy.
    Source: He et al. 2015, "Deep residual learning for image recognition".
    """

    nested = ("body", "shortcut")
    examples = [
        ((5, 6), lambda: Residual(LAYERS["Linear"](6, 3), LAYERS["Linear"](6, 3))),
        ((5, 6), lambda: Residual(LAYERS["Linear"](6, 6))),
    ]

    def __init__(self, body: Layer, shortcut: Layer | None = None):
        super().__init__(body=body, **({"shortcut": shortcut} if shortcut else {}))

    def forward(self, x: Tensor):
        y, saved = self.children["body"].forward(x)
        if "shortcut" not in self.children:
            return y + x, [saved]
        around, other = self.children["shortcut"].forward(x)
        return y + around, [saved, other]

    def backward(self, saved, dy: Tensor, input_grad: bool = True, keep: bool = False):
        saved, grads = self._to_spend(saved, keep), {}
        around = dy
        if "shortcut" in self.children:
            around, new = run_backward(self.children["shortcut"], saved.pop(), dy, input_grad, keep)
            self._collect(grads, "shortcut", new)
        dx, new = run_backward(self.children["body"], saved.pop(), dy, input_grad, keep)
        self._collect(grads, "body", new)
        return dx + around if input_grad else None, grads

    def to_torch(self, **children):
        return ResidualModule(**children)


class ResidualModule(nn.Module):
    """Residual as a torch.nn module."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None):
        super().__init__()
        self.body = body
        if shortcut is not None:
            self.shortcut = shortcut
        self.has_shortcut = shortcut is not None

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + (self.shortcut(x) if self.has_shortcut else x)
