"""Nets: layers made of layers, one after another (Sequential) or with a shortcut (Residual).

A net obeys the same contract as a layer. Its `saved` is a list. backward removes entries from its end, so
that memory is freed during backward. With `keep=True` the list stays unchanged, for a second backward.
"""

from collections.abc import Callable, Iterable, Iterator

from torch import Tensor, nn

from nets.common.errors import SavedError
from nets.layers.arithmetic import check_broadcast, reduced
from nets.layers.base import Layer, run_backward
from nets.layers.linear import Linear
from nets.layers.registry import register


class Net(Layer):
    """A layer made of named layers. A subclass defines forward and backward.

    A parameter's name is `child.name`. If the same layer or tensor is used in several places, its
    parameter is listed once, under the first name. Its gradient is the sum over
    the places: dL/dw = Σ_k dL/dw_k, the chain rule for w_1 = w_2 = … = w.

    backward has the options `input_grad` (False: dx isn't needed) and `keep` (True: leave saved unchanged).
    ValueError without children, TypeError if a child is no Layer.
    """

    def __init__(self, /, **children: Layer):
        if not children:
            raise ValueError(f"{type(self).__name__} needs a layer")
        for name, child in children.items():
            if not isinstance(child, Layer):
                raise TypeError(f"{type(self).__name__}: {name} is {child!r}, not a Layer")
        self.children = children
        self.training = True
        first: dict[int, str] = {}
        self._names = {  # name of a tensor in each place -> the name that it is listed under
            f"{child}.{name}": first.setdefault(id(t), f"{child}.{name}")
            for child, layer in children.items()
            for name, t in (layer.params | layer.buffers).items()
        }

    def _listed(self, kind: str) -> dict[str, Tensor]:
        """The children's "params" or "buffers" by name, each tensor once."""
        return {
            f"{child}.{name}": t
            for child, layer in self.children.items()
            for name, t in getattr(layer, kind).items()
            if self._names[f"{child}.{name}"] == f"{child}.{name}"
        }

    @property
    def params(self) -> dict[str, Tensor]:
        """The children's parameters by name, in a new dict: adding to it doesn't change the net."""
        return self._listed("params")

    @property
    def buffers(self) -> dict[str, Tensor]:
        """The children's buffers by name, in a new dict: adding to it doesn't change the net."""
        return self._listed("buffers")

    @property
    def keeps_samples(self) -> bool:  # type: ignore[override]
        """Whether all layers inside keep the samples."""
        return all(child.keeps_samples for child in self.children.values())

    def backward(self, saved, dy: Tensor, *, input_grad: bool = True, keep: bool = False):
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def is_leaf(self):
        return False

    @property
    def takes_integers(self) -> bool:  # type: ignore[override]
        """Whether the first layer takes whole numbers."""
        return self.leaves()[0].takes_integers

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
        """Add the gradients of one child to grads, under the net's names."""
        for name, g in new.items():
            name = self._names[f"{child}.{name}"]
            grads[name] = grads[name] + g if name in grads else g

    def _hand_over(
        self,
        grads: dict[str, Tensor],
        child: str,
        new: Iterable[str],
        frozen: frozenset[str],
        on_grads: Callable[[dict[str, Tensor]], None] | None,
    ) -> dict[str, Tensor]:
        """grads without the frozen ones and without those of a child that on_grads gets.

        A tensor that an earlier child uses too is listed under that child's name, so it isn't in grads
        under this child's: its gradient isn't complete yet.
        """
        if frozen:
            grads = {k: g for k, g in grads.items() if k not in frozen}
        if on_grads:
            complete = {}
            for name in new:
                if f"{child}.{name}" in grads:
                    complete[f"{child}.{name}"] = grads.pop(f"{child}.{name}")
            if complete:
                on_grads(complete)
        return grads

    def _take_saved(self, saved: list, keep: bool) -> list:
        """The list that backward may empty. SavedError if an earlier backward has emptied it."""
        if len(saved) < len(self.children):
            raise SavedError(
                f"{type(self).__name__}: an earlier backward has freed what this forward saved;"
                " call it with keep=True, or call forward again"
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

    With `recompute`, a layer that saves its x (such as a convolution) drops it if the previous layer can
    recompute it from its own saved tensors (an activation or a norm can). This needs less memory and a
    little more computation.
    Source: Chen et al. 2016, "Training deep nets with sublinear memory cost".
    """

    nested = ("layers",)
    examples = [((5, 6), lambda: Sequential(Linear(6, 5), Linear(5, 3)))]

    def __init__(self, *layers: Layer, recompute: bool = False):
        super().__init__(**{str(i): layer for i, layer in enumerate(layers)})
        self.recompute = recompute

    def forward(self, x: Tensor):
        saved, previous = [], None
        for layer in self.children.values():
            y, s = layer.forward(x)
            saved.append(layer.drop_input(s) if self._drops_input(previous, layer) else s)
            x, previous = y, layer
        return x, saved

    def backward(
        self,
        saved,
        dy: Tensor,
        *,
        input_grad: bool = True,
        keep: bool = False,
        frozen: frozenset[str] = frozenset(),
        on_grads: Callable[[dict[str, Tensor]], None] | None = None,
    ):
        """(dx, grads) as in Layer.backward.

        input_grad  False: dx is None, and the layers before the first one that is trained get no backward
        keep        True: leave saved unchanged, for a second backward
        frozen      names of parameters whose gradients aren't needed; grads leaves them out
        on_grads    called with the gradients of a layer as soon as they are complete; grads leaves them out
        """
        saved, grads, restored = self._take_saved(saved, keep), {}, set()
        children = list(self.children.items())
        first = 0 if input_grad else self._first_trained(frozen)  # no gradient before it is needed
        for i in reversed(range(first, len(children))):
            name, layer = children[i]
            self._recompute_input(saved, i, restored)
            dy, new = run_backward(layer, saved.pop(), dy, input_grad or i > first, keep)
            self._collect(grads, name, new)
            grads = self._hand_over(grads, name, new, frozen, on_grads)
        saved.clear()
        return dy if input_grad else None, grads

    def _first_trained(self, frozen: frozenset[str]) -> int:
        """The index of the first child with a parameter that isn't frozen; their number if there is none."""
        for i, (child, layer) in enumerate(self.children.items()):
            if any(self._names[f"{child}.{name}"] not in frozen for name in layer.params):
                return i
        return len(self.children)

    def _drops_input(self, previous: Layer | None, layer: Layer) -> bool:
        """Whether forward drops the x that the layer saved, so that backward recomputes it."""
        return (
            self.recompute and previous is not None and previous.recomputes_output() and layer.saves_input()
        )

    def _recompute_input(self, saved: list, i: int, restored: set[int]):
        """Put back the x of layer i if forward dropped it. restored: the layers that have theirs back."""
        layers = list(self.children.values())
        if i and i not in restored and self._drops_input(layers[i - 1], layers[i]):
            self._recompute_input(saved, i - 1, restored)
            saved[i] = layers[i].add_input(saved[i], layers[i - 1].output(saved[i - 1]))
            restored.add(i)

    def with_children(self, children: dict[str, Layer]) -> "Sequential":
        """A new Sequential of these layers with these names, and with the options and mode of this one."""
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
    """y = body(x) + shortcut(x). Without a layer for the shortcut, it is x itself.

    x affects y by two paths, so its gradient is the sum of two: dx = body'ᵀ dy + shortcut'ᵀ dy. Where one
    path's output is repeated to the shape of the other's, its dy is summed over the repeats, as for Add.
    BatchError if the shapes don't broadcast.
    Source: He et al. 2015, "Deep residual learning for image recognition".
    """

    nested = ("body", "shortcut")
    examples = [
        ((5, 6), lambda: Residual(Linear(6, 3), Linear(6, 3))),
        ((5, 6), lambda: Residual(Linear(6, 6))),
    ]

    def __init__(self, body: Layer, shortcut: Layer | None = None):
        super().__init__(body=body, **({"shortcut": shortcut} if shortcut else {}))

    def forward(self, x: Tensor):
        y, *saved = self.children["body"].forward(x)
        if "shortcut" in self.children:
            x, shortcut_saved = self.children["shortcut"].forward(x)
            saved.append(shortcut_saved)
        if y.shape != x.shape:
            check_broadcast(self, y.shape, x.shape)
            saved.append((y.shape, x.shape))
        return y + x, saved

    def backward(self, saved, dy: Tensor, *, input_grad: bool = True, keep: bool = False):
        saved, grads = self._take_saved(saved, keep), {}
        body_dy = shortcut_dx = dy
        if len(saved) > len(self.children):
            body_dy, shortcut_dx = (reduced(dy, shape) for shape in saved.pop())
        if "shortcut" in self.children:
            shortcut, shortcut_dy = self.children["shortcut"], shortcut_dx
            shortcut_dx, new = run_backward(shortcut, saved.pop(), shortcut_dy, input_grad, keep)
            self._collect(grads, "shortcut", new)
        dx, new = run_backward(self.children["body"], saved.pop(), body_dy, input_grad, keep)
        self._collect(grads, "body", new)
        return dx + shortcut_dx if input_grad else None, grads

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
