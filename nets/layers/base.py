"""The contract: a layer is a small object with a forward and, directly under it, its backward.

    y, saved  = layer.forward(x)          # saved: the least that backward needs
    dx, grads = layer.backward(saved, dy) # grads: keyed and shaped as layer.params

With L the loss at the end of the net, dy is dL/dy, dx is dL/dx and grads[name] is dL/dparam.
Neither method writes to the layer (BatchNorm's running statistics are the one exception), to
x, to dy or to saved, so that one forward can serve two backwards and one layer two places.
"""

from collections import Counter

import torch
from torch import Tensor

from nets.common.errors import BatchError

KERNELS = ("reference", "torch", "native")


def check_kernel(kernel: str) -> str:
    """Which backward: "reference", our formulas in tensor code, "torch", the library's own kernel, or
    "native", our formulas in kernels of our own where nets/native has them, and else the library's."""
    if kernel not in KERNELS:
        raise ValueError(f'kernel is "reference", "torch" or "native", not "{kernel}"')
    return kernel


def pictures(layer, x: Tensor):
    """BatchError unless x is a batch of pictures."""
    if x.dim() != 4:
        raise BatchError(f"{type(layer).__name__} takes pictures (N, C, H, W), not {tuple(x.shape)}")


def sum_dtype(x: Tensor) -> torch.dtype:
    """The type to add up in: at least float32."""
    return torch.promote_types(x.dtype, torch.float32)


def blocks(*tensors: Tensor, each: int | None = None, most: int = 2**19):
    """Yield the tensors some samples at a time, so that what is made of them stays in the cache.

    each  numbers that one sample makes, by default those that it has
    most  numbers in a block; 2 MB in float32 by default, which was measured to be good

    On CUDA, and where a compiler fuses, all at once.
    """
    tensors = [torch.atleast_1d(t) for t in tensors]  # one number is a sample too
    some = len(tensors[0])
    each = tensors[0][:1].numel() if each is None else each
    if tensors[0].device.type == "cpu" and not torch.compiler.is_compiling():
        some = max(1, most // max(1, each))
    return zip(*(t.split(some) for t in tensors))


def uniform(shape: tuple[int, ...], spread: float) -> Tensor:
    """Start values, uniform in ±spread, from torch's global generator."""
    return (torch.rand(shape) * 2 - 1) * spread


class Layer:
    """Base of every layer, and of nets, which are layers.

    params      name -> tensor, trained: the optimizer updates it in place
    buffers     name -> tensor, state that is kept with the weights but not trained
    training    True in training, False in evaluation (Dropout and BatchNorm differ)
    input_grad  False where nobody wants dx, as at the layer that sees the data: a layer
                may then return None for it, and save the work
    """

    def __init__(self):
        self.params: dict[str, Tensor] = {}
        self.buffers: dict[str, Tensor] = {}
        self.training = True
        self.input_grad = True

    def forward(self, x: Tensor):
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, saved, dy: Tensor):
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def output(self, saved):
        """y once more, from what forward saved, for a layer that would rather not keep its x.

        Only where that is cheap: a layer without this method's own form can't be asked.
        """
        raise NotImplementedError(f"{type(self).__name__} doesn't compute its output twice")

    def walk(self):
        """Yield this layer and, for a net, every layer in it, each once."""
        yield self

    def places(self) -> list["Layer"]:
        """The layers that aren't nets, in order, each as often as it is used."""
        return [self]

    def readers(self) -> list["Layer"]:
        """Those of them that see the input itself."""
        return [self]

    def train(self, mode: bool = True):
        for layer in self.walk():
            layer.training = mode
        return self

    def eval(self):
        return self.train(False)

    def to(self, *args, **kwargs):
        """Move or convert every tensor, as `Tensor.to`. Tensors that are shared stay shared."""
        moved = {}
        for layer in self.walk():
            for tensors in () if isinstance(layer, Net) else (layer.params, layer.buffers):
                for name, t in tensors.items():
                    tensors[name] = moved.setdefault(id(t), t.to(*args, **kwargs))
        return self


class Net(Layer):
    """A layer made of named layers. A subclass writes forward and backward, nothing else.

    A parameter is called `child.name`. One that is met twice, since the same layer or the same
    tensor stands in two places, is listed once, under its first name, and its gradient is the
    sum over the places: dL/dw = Σ_k dL/dw_k, the chain rule for w_1 = w_2 = … = w.
    """

    def __init__(self, **children: Layer):
        if not children:
            raise ValueError(f"{type(self).__name__} needs a layer")
        self.children = children
        self.training = True
        first = {}
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
    def params(self) -> dict[str, Tensor]:
        return self._listed("params")

    @property
    def buffers(self) -> dict[str, Tensor]:
        return self._listed("buffers")

    @property
    def input_grad(self) -> bool:
        return any(layer.input_grad for layer in self.readers())

    @input_grad.setter
    def input_grad(self, wanted: bool):
        """Left out only by layers that see nothing but the net's input: not by one used again."""
        places = Counter(id(layer) for layer in self.places())
        for layer in self.readers():
            layer.input_grad = wanted or places[id(layer)] > 1

    def places(self):
        return [leaf for child in self.children.values() for leaf in child.places()]

    def _collect(self, grads: dict[str, Tensor], child: str, new: dict[str, Tensor]):
        """Add one child's gradients to the net's own."""
        for name, g in new.items():
            name = self._names[f"{child}.{name}"]
            grads[name] = grads[name] + g if name in grads else g

    def walk(self):
        seen = set()
        yield self
        for child in self.children.values():
            for layer in child.walk():
                if id(layer) not in seen:
                    seen.add(id(layer))
                    yield layer
