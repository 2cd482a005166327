"""The contract: a layer is a small object with a forward and, directly under it, its backward.

    y, saved  = layer.forward(x)          # saved: the least that backward needs
    dx, grads = layer.backward(saved, dy) # grads: keyed and shaped as layer.params

With L the loss at the end of the net, dy is dL/dy, dx is dL/dx and grads[name] is dL/dparam.
Neither method writes to the layer (BatchNorm's running statistics are the one exception), to
x, to dy or to saved. So one forward can serve two backwards, and one layer two places in a net.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from nets.common.errors import BatchError, CheckpointError


class Layer:
    """Base of every layer, and of nets, which are layers.

    params    name -> tensor, trained: the optimizer updates it in place
    buffers   name -> tensor, state that is kept with the weights but not trained
    training  True in training, False in evaluation (Dropout and BatchNorm differ)

    A subclass calls super().__init__(), fills params, and defines forward and backward. The class
    attributes below are optional: they make the layer known to configs, to torch and to the checker.
    A backward that can leave out dx takes the keyword `input_grad`, True by default.
    """

    # What the input's shape decides: option of __init__ -> axis of the input, counted with the batch.
    inferred: ClassVar[dict[str, int]] = {}
    # Does it take pictures (N, C, H, W) alone?
    takes_pictures: ClassVar[bool] = False
    # Options of __init__ that are lists of layers.
    nested: ClassVar[tuple[str, ...]] = ()
    # What to check: (shape of the input, options of __init__), or (shape, function that returns the layer).
    examples: ClassVar[list] = []
    # torch.nn modules that from_torch turns into this layer, and functions that stand for them in a forward:
    # name -> function of the call's arguments that returns the module.
    torch_types: ClassVar[tuple[type[nn.Module], ...]] = ()
    torch_calls: ClassVar[dict[str, Callable[..., nn.Module]]] = {}
    # Keywords that backward takes beside saved and dy.
    backward_options: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.backward_options = frozenset([*inspect.signature(cls.backward).parameters][3:])

    def __init__(self):
        self.params: dict[str, Tensor] = {}
        self.buffers: dict[str, Tensor] = {}
        self.training = True

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, saved: Any, dy: Tensor) -> tuple[Tensor | None, dict[str, Tensor]]:
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def __call__(self, x: Tensor) -> Tensor:
        """y alone."""
        return self.forward(x)[0]

    # -- what it is in torch -----------------------------------------------------------------------

    def to_torch(self, **children: nn.Module) -> nn.Module:
        """The torch.nn module of this layer, with the same names for its tensors, whatever their values.

        A net gets its children's modules by name. `nets.layers.to_module` puts in the weights.
        """
        raise NotImplementedError(f"{type(self).__name__} has no torch.nn module")

    def to_reference(self, **children: nn.Module) -> nn.Module:
        """As to_torch, for the checker: a module that also draws the layer's own random numbers."""
        return self.to_torch(**children)

    @classmethod
    def from_torch(cls, module: nn.Module) -> "Layer | None":
        """The layer of a module of `torch_types`, None for y = x. Unsupported says which option it lacks."""
        return cls()

    @classmethod
    def has_torch(cls) -> bool:
        """Does to_torch describe this very class? A subclass with its own forward computes something else."""
        owners = [next(c for c in cls.__mro__ if name in vars(c)) for name in ("forward", "to_torch")]
        return owners[1] is not Layer and issubclass(owners[1], owners[0])

    # -- recomputing ------------------------------------------------------------------------------

    def output(self, saved) -> Tensor:
        """y computed again from saved, where that is cheap. A layer without its own `output` can't."""
        raise NotImplementedError(f"{type(self).__name__} doesn't compute its output again")

    def drop_input(self, saved):
        """saved without x, for a layer that keeps x in it. A layer without its own `drop_input` doesn't."""
        raise NotImplementedError(f"{type(self).__name__} doesn't save its input")

    def add_input(self, saved, x: Tensor):
        """The inverse of drop_input: saved with x again."""
        raise NotImplementedError(f"{type(self).__name__} doesn't save its input")

    @classmethod
    def recomputes_output(cls) -> bool:
        return cls.output is not Layer.output

    @classmethod
    def saves_input(cls) -> bool:
        return cls.drop_input is not Layer.drop_input

    # -- a net is a layer, a layer a net of one ----------------------------------------------------

    def walk(self) -> Iterator["Layer"]:
        """Yield this layer and, for a net, every layer in it, each once."""
        yield self

    def leaves(self) -> list["Layer"]:
        """The layers that aren't nets, in order, each as often as it is used."""
        return [self]

    def train(self, mode: bool = True) -> Self:
        for layer in self.walk():
            layer.training = mode
        return self

    def eval(self) -> Self:
        return self.train(False)

    def to(self, *args, **kwargs) -> Self:
        """Move or convert every tensor, as `Tensor.to`. Tensors that are shared stay shared."""
        moved = {}
        for layer in self.walk():
            for tensors in (layer.params, layer.buffers) if layer.is_leaf() else ():
                for name, t in tensors.items():
                    tensors[name] = moved.setdefault(id(t), t.to(*args, **kwargs))
        return self

    def is_leaf(self) -> bool:
        """Does it hold its own tensors, rather than other layers?"""
        return True

    # -- its tensors by name -----------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers by name: the tensors themselves, not copies."""
        return {**self.params, **self.buffers}

    def load_state_dict(self, state: dict[str, Tensor]) -> Self:
        """Copy tensors in by name. CheckpointError names the first that is missing, extra or of another shape."""
        here = self.state_dict()
        for name in [*here, *state]:
            if name not in state or name not in here:
                raise CheckpointError(
                    f"{name}: {'missing' if name in here else 'no such tensor in this net'}"
                )
            if state[name].shape != here[name].shape:
                shapes = f"shape {tuple(state[name].shape)}, expected {tuple(here[name].shape)}"
                raise CheckpointError(f"{name}: {shapes}")
        for name, t in here.items():
            t.copy_(state[name])
        return self

    # -- printing ----------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The options of __init__ that are attributes, as `name=value`."""
        shown = []
        for name in inspect.signature(type(self).__init__).parameters:
            if name == "bias":
                shown.append(f"bias={'bias' in self.params}")
            elif name in vars(self):
                shown.append(f"{name}={vars(self)[name]!r}")
        return ", ".join(shown)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


class SavesInput:
    """For a layer whose `saved` is x itself: with recomputing, x is dropped and computed again."""

    def drop_input(self, saved):
        return None

    def add_input(self, saved, x: Tensor):
        return x


def run_backward(layer: Layer, saved, dy: Tensor, input_grad: bool = True, keep: bool = False):
    """layer.backward(saved, dy), with those of the two options that the layer takes."""
    options = {}
    if not input_grad and "input_grad" in layer.backward_options:
        options["input_grad"] = False
    if keep and "keep" in layer.backward_options:
        options["keep"] = True
    return layer.backward(saved, dy, **options)


def check_pictures(layer: Layer, x: Tensor):
    """BatchError unless x is a batch of pictures."""
    if x.dim() != 4:
        raise BatchError(f"{type(layer).__name__} takes pictures (N, C, H, W), not {tuple(x.shape)}")


def sum_dtype(x: Tensor) -> torch.dtype:
    """The type to add up in: at least float32."""
    return torch.promote_types(x.dtype, torch.float32)


def blocks(*tensors: Tensor, each: int | None = None, most: int = 2**19):
    """Yield the tensors some samples at a time, so that intermediate results stay in the cache.

    each  numbers that one sample makes, by default those that it has
    most  numbers in a block; 2 MB in float32 by default, which was measured to be good

    On CUDA, and where a compiler fuses, all at once.
    """
    tensors = tuple(torch.atleast_1d(t) for t in tensors)  # one number is a sample too
    some = len(tensors[0])
    each = tensors[0][:1].numel() if each is None else each
    if tensors[0].device.type == "cpu" and not torch.compiler.is_compiling():
        some = max(1, most // max(1, each))
    return zip(*(t.split(some) for t in tensors))
