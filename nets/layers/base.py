"""The contract of a layer: an object with a forward and, directly below it, the backward.

    y, saved  = layer.forward(x)          # saved: what backward needs, as little as possible
    dx, grads = layer.backward(saved, dy) # grads: the keys and shapes of layer.params

If L is the loss at the end of the net, then dy is dL/dy, dx is dL/dx and grads[name] is dL/dparam.
Neither method writes to the layer, to x, to dy or to saved. The only exception is BatchNorm, whose
forward updates its running statistics. So backward can be called twice for one forward, and one layer
can be used in two places of a net.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from nets.common import tensorfile
from nets.common.errors import BatchError
from nets.layers.checks import Tensors, takes_floats


class Layer:
    """Base class of all layers. Nets are layers too.

    params    name -> tensor that is trained; the optimizer updates it in place
    buffers   name -> tensor that is saved with the weights but not trained
    training  True in training, False in evaluation; Dropout and BatchNorm depend on it

    A subclass calls super().__init__(), fills params, and defines forward and backward. The class
    attributes below are optional. Configs, the conversion from and to torch, and gradcheck read them.
    A backward that can skip dx has the keyword `input_grad`, True by default.
    """

    # Number of tensors that forward takes; None for any number. With several, dx is a tuple: see graph.py.
    num_inputs: int | None = 1
    # Whether y doesn't depend on the numbers of x, as of a bare parameter. dx is then 0.
    constant: ClassVar[bool] = False
    # Whether y has a row for each sample of x, in the same order.
    keeps_samples: bool = True
    # Options of __init__ that follow from the input's shape: option -> axis of the input (0: the batch).
    inferred: ClassVar[dict[str, int]] = {}
    # Whether the layer takes only images (N, C, H, W).
    takes_images: ClassVar[bool] = False
    # Whether x may be whole numbers, as in Embedding. All other layers refuse them: see checks.py.
    takes_integers: bool = False
    # Whether each number of y depends on only one number of x. The benchmarks count no memory traffic for it.
    elementwise: ClassVar[bool] = False
    # Options of __init__ that are lists of layers.
    nested: ClassVar[tuple[str, ...]] = ()
    # What gradcheck checks: (input shape, options of __init__), or (input shape, function that returns it).
    examples: ClassVar[list] = []
    # torch.nn modules that from_torch converts to this layer.
    torch_types: ClassVar[tuple[type[nn.Module], ...]] = ()
    # Calls in a torch forward that from_torch converts: name of the call -> function that takes the call's
    # arguments and returns the equivalent module.
    torch_calls: ClassVar[dict[str, Callable[..., nn.Module]]] = {}
    # The same for calls with parameters of the forward's own, which the function gets as they are.
    torch_tensor_calls: ClassVar[dict[str, Callable[..., nn.Module]]] = {}
    # The calls of torch_calls that write to their first argument.
    torch_inplace_calls: ClassVar[tuple[str, ...]] = ()
    # Whether y can share the memory of x in the modules of torch_types.
    torch_shares_memory: ClassVar[bool] = False
    # Parameters of backward after saved and dy. Filled in for every subclass.
    backward_options: ClassVar[frozenset[str]] = frozenset()
    # Methods defined for the forward of this class, rather than that of a base class. Filled in as well.
    described: ClassVar[frozenset[str]] = frozenset()
    # Name of each tensor -> its name in the torch module. Set by from_torch on the layers that it returns.
    torch_names: dict[str, str]

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.backward_options = frozenset([*inspect.signature(cls.backward).parameters][3:])
        forward = _owner(cls, "forward")
        owners = {name: _owner(cls, name) for name in ("output", "drop_input", "to_torch", "to_reference")}
        cls.described = frozenset(k for k, c in owners.items() if c is not Layer and issubclass(c, forward))
        if owners["to_reference"] is not Layer and not issubclass(owners["to_reference"], owners["to_torch"]):
            cls.to_reference = Layer.to_reference  # the inherited one is of another forward
        if cls.forward is not Layer.forward and not hasattr(cls.forward, "takes_floats"):
            cls.forward = takes_floats(cls.forward)

    def __init__(self):
        name = type(self).__name__
        self.params: dict[str, Tensor] = Tensors(name, trained=True)
        self.buffers: dict[str, Tensor] = Tensors(name, trained=False)
        self.training = True

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        """(y, saved). BatchError if the layer can't take the shape or dtype of x."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, saved: Any, dy: Tensor) -> tuple[Tensor | None, dict[str, Tensor]]:
        """(dx, grads): dx has the shape and dtype of x, grads has those of params.

        dy has the shape of y. BatchError if it has another one.
        """
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def __call__(self, *xs: Tensor) -> Tensor:
        """y, without saved."""
        return self.forward(*xs)[0]

    # -- conversion from and to torch --------------------------------------------------------------

    def to_torch(self, **children: nn.Module) -> nn.Module:
        """The torch.nn module that computes the same. Its tensors have the layer's names, but any values.

        children: the modules of a net's children, by name. `nets.layers.to_module` copies the weights.
        """
        raise NotImplementedError(f"{type(self).__name__} has no torch.nn module")

    def to_reference(self, **children: nn.Module) -> nn.Module:
        """The module for gradcheck: like to_torch, but it draws the same random numbers as the layer."""
        return self.to_torch(**children)

    @classmethod
    def from_torch(cls, module: Any) -> "Layer | None":
        """The layer for a module of `torch_types`, or None for y = x. Its tensors may have any values.

        Unsupported if the module has an option that the layer lacks.
        """
        return cls()

    @classmethod
    def has_torch(cls) -> bool:
        """Whether to_torch is valid for this class. It isn't for a subclass that redefines forward alone."""
        return "to_torch" in cls.described

    # -- recomputation ----------------------------------------------------------------------------

    def output(self, saved) -> Tensor:
        """y, recomputed from saved. Only layers that can do this cheaply define it."""
        raise NotImplementedError(f"{type(self).__name__} doesn't compute its output again")

    def drop_input(self, saved):
        """saved without x. Only layers that save x define it."""
        raise NotImplementedError(f"{type(self).__name__} doesn't save its input")

    def add_input(self, saved, x: Tensor):
        """The inverse of drop_input: saved with x."""
        raise NotImplementedError(f"{type(self).__name__} doesn't save its input")

    @classmethod
    def recomputes_output(cls) -> bool:
        """Whether the class defines `output` for its forward."""
        return "output" in cls.described

    @classmethod
    def saves_input(cls) -> bool:
        """Whether the class defines `drop_input` for its forward."""
        return "drop_input" in cls.described

    # -- the layers inside -------------------------------------------------------------------------

    def walk(self) -> Iterator["Layer"]:
        """Yield this layer and, for a net, all layers inside it. A layer that is used twice comes once."""
        yield self

    def leaves(self) -> list["Layer"]:
        """The layers that aren't nets, in order. A layer that is used twice comes twice."""
        return [self]

    def train(self, mode: bool = True) -> Self:
        """Set training mode, or evaluation mode if mode is False, here and in all layers inside."""
        for layer in self.walk():
            layer.training = mode
        return self

    def eval(self) -> Self:
        """Set evaluation mode here and in all layers inside."""
        return self.train(False)

    def to(self, *args, **kwargs) -> Self:
        """Move or convert every tensor, with the arguments of `Tensor.to`. Shared tensors stay shared.

        As in torch, a dtype applies to floating-point tensors only.
        """
        moved = {}
        for layer in self.walk():
            for tensors in (layer.params, layer.buffers) if layer.is_leaf() else ():
                for name, t in tensors.items():
                    new = t.to(*args, **kwargs)
                    if not t.is_floating_point() and new.dtype != t.dtype:
                        new = t.to(new.device)
                    tensors[name] = moved.setdefault(id(t), new)
        return self

    def is_leaf(self) -> bool:
        """True for a layer that holds tensors, False for a net, which holds layers."""
        return True

    # -- tensors by name ---------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers by name: the tensors themselves, not copies."""
        return {**self.params, **self.buffers}

    def load_state_dict(self, state: dict[str, Tensor]) -> Self:
        """Copy the values of tensors by name.

        CheckpointError names the first tensor that is missing, unknown or of another shape. Nothing is
        copied then.
        """
        own = self.state_dict()
        tensorfile.check(own, state, "state: ", any_dtype=True)
        for name, t in own.items():
            t.copy_(state[name])
        return self

    # -- printing ----------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The options of __init__ that are attributes, as `name=value`: what repr shows in parentheses."""
        shown = []
        for name in inspect.signature(type(self).__init__).parameters:
            if name == "bias":
                shown.append(f"bias={'bias' in self.params}")
            elif name in vars(self):
                shown.append(f"{name}={vars(self)[name]!r}")
        return ", ".join(shown)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


def _owner(cls: type, method: str) -> type:
    """The class that a method of cls comes from. A mixin's method comes from the class that mixes it in."""
    for c in cls.__mro__:
        mixins = [base for base in c.__bases__ if not issubclass(base, Layer)]
        if any(method in vars(part) for part in (c, *mixins)):
            return c
    return Layer


class SavesInput:
    """Mixin for a layer whose `saved` is x itself. Recomputation then drops x and computes it again."""

    def drop_input(self, saved):
        """Nothing is left without x."""
        return None

    def add_input(self, saved, x: Tensor):
        """saved is x."""
        return x


class SavesInputFirst:
    """Mixin for a layer whose `saved` is a tuple that begins with x. Recomputation drops x alone."""

    def drop_input(self, saved):
        """The rest of the tuple."""
        return saved[1:]

    def add_input(self, saved, x: Tensor):
        """The whole tuple."""
        return (x, *saved)


def run_backward(
    layer: Layer, saved: Any, dy: Tensor, input_grad: bool = True, keep: bool = False
) -> tuple[Any, dict[str, Tensor]]:
    """layer.backward(saved, dy) with the options that this layer's backward has.

    input_grad  False: dx isn't needed, and may be None
    keep        True: a net leaves saved unchanged, so that backward can be called again
    """
    options = {}
    if not input_grad and "input_grad" in layer.backward_options:
        options["input_grad"] = False
    if keep and "keep" in layer.backward_options:
        options["keep"] = True
    return layer.backward(saved, dy, **options)


def check_images(layer: Layer, x: Tensor):
    """BatchError unless x is a batch of images (N, C, H, W)."""
    if x.dim() != 4:
        raise BatchError(f"{type(layer).__name__} takes images (N, C, H, W), not {tuple(x.shape)}")


def sum_dtype(x: Tensor) -> torch.dtype:
    """The dtype to sum numbers of x in: that of x, but at least float32."""
    return torch.promote_types(x.dtype, torch.float32)


def blocks(*tensors: Tensor, sample_size: int | None = None, block_size: int = 2**19):
    """Yield the tensors in blocks of samples, so that intermediate results stay in the cache.

    sample_size  numbers that one sample needs in the computation; by default, the numbers it has
    block_size   numbers in a block at most; by default 2 MB in float32, which was fast in measurements

    On CUDA, and under torch.compile, which fuses the operations anyway, there is one block.
    """
    tensors = tuple(torch.atleast_1d(t) for t in tensors)  # a scalar counts as one sample
    samples = len(tensors[0])
    sample_size = tensors[0][:1].numel() if sample_size is None else sample_size
    if tensors[0].device.type == "cpu" and not torch.compiler.is_compiling():
        samples = max(1, block_size // max(1, sample_size))
    return zip(*(t.split(samples) for t in tensors))
