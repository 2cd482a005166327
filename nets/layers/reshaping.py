"""Layers that only move numbers: another shape, or another order of the axes. Backward moves them back."""

import math

import torch
from torch import Tensor, nn

from nets.common.errors import BatchError, Unsupported
from nets.layers.base import Layer
from nets.layers.checks import check_dy
from nets.layers.registry import register
from nets.layers.sizes import Size, num_inputs, resolve


def alone(dx: Tensor, n: int):
    """dx of the first of n inputs, where the others only give sizes."""
    return dx if n == 1 else (dx, *[None] * (n - 1))


def _listed(args: tuple) -> tuple:
    """Arguments that are given one by one or as one list."""
    return tuple(args[0]) if len(args) == 1 and isinstance(args[0], (list, tuple, torch.Size)) else args


class ReshapeModule(nn.Module):
    """Reshape as a torch.nn module."""

    def __init__(self, shape):
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return x.reshape(resolve(self.shape, (x, *others)))


class ExpandModule(nn.Module):
    """Expand as a torch.nn module."""

    def __init__(self, shape):
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return x.expand(resolve(self.shape, (x, *others)))


class PermuteModule(nn.Module):
    """Permute as a torch.nn module."""

    def __init__(self, dims):
        super().__init__()
        self.dims = tuple(dims)

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.dims)


class TransposeModule(nn.Module):
    """Transpose as a torch.nn module."""

    def __init__(self, dim0: int, dim1: int):
        super().__init__()
        self.dim0, self.dim1 = dim0, dim1

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(self.dim0, self.dim1)


class SqueezeModule(nn.Module):
    """Squeeze as a torch.nn module."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return x.squeeze(self.dim)


class UnsqueezeModule(nn.Module):
    """Unsqueeze as a torch.nn module."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(self.dim)


def _view(x, *shape):
    """The module for x.view(shape): Flatten's for x.view(x.size(0), -1)."""
    shape = _listed(shape)
    if len(shape) == 2 and shape[0] == Size(0) and type(shape[1]) is int and shape[1] == -1:
        return nn.Flatten(1)
    if any(isinstance(n, (torch.dtype, float)) for n in shape):
        raise Unsupported(f"view as {shape[0]}")
    return ReshapeModule(shape)


def _permute(x, *dims):
    return PermuteModule(_listed(dims))


def _expand(x, *shape):
    return ExpandModule(_listed(shape))


def _squeeze(x, dim=None):
    if not isinstance(dim, int):
        raise Unsupported("squeeze of more than one axis")
    return SqueezeModule(dim)


def _t(x):
    return TransposeModule(0, 1)


@register
class Reshape(Layer):
    """The numbers of x in the same order in another shape. Backward restores the shape.

    shape  sizes, of which one may be −1: what is left over. A size can follow from the batch: Size(d) is the
           size of axis d of x, and Size(d, k) that of input k, whose numbers aren't used
    """

    elementwise = True
    keeps_samples = False
    examples = [((4, 3, 6), dict(shape=(Size(0), -1, 2)))]
    torch_types = (ReshapeModule,)
    torch_calls = dict.fromkeys(("view", "reshape"), _view)
    torch_shares_memory = True

    def __init__(self, shape):
        super().__init__()
        self.shape = tuple(shape)
        self.num_inputs = num_inputs(self.shape)

    def forward(self, x: Tensor, *others: Tensor):
        shape = resolve(self.shape, (x, *others))
        known = math.prod(shape)  # but for its sign
        if shape.count(-1) > 1 or (x.numel() % known if -1 in shape and known else x.numel() != known):
            raise BatchError(f"Reshape to {shape} takes no {tuple(x.shape)}")
        if -1 in shape and not known:  # torch can't divide by 0
            shape = tuple(x.shape[0] if n == -1 else n for n in shape)
        y = x.reshape(shape)
        return y, (x.shape, y.shape, 1 + len(others))

    def backward(self, saved, dy: Tensor):
        shape, y_shape, n = saved
        check_dy(self, dy, y_shape)
        return alone(dy.reshape(shape), n), {}

    def to_torch(self, **_):
        return ReshapeModule(self.shape)

    @classmethod
    def from_torch(cls, module):
        return cls(module.shape)


@register
class Expand(Layer):
    """x with axes of one, or new axes in front, repeated. Each x gets the sum of dy over its repeats.

    shape  as for Reshape; −1 leaves an axis as it is
    """

    keeps_samples = False
    examples = [((4, 1, 6), dict(shape=(Size(0), 3, -1)))]
    torch_types = (ExpandModule,)
    torch_calls = {"expand": _expand}
    torch_shares_memory = True

    def __init__(self, shape):
        super().__init__()
        self.shape = tuple(shape)
        self.num_inputs = num_inputs(self.shape)

    def forward(self, x: Tensor, *others: Tensor):
        shape = resolve(self.shape, (x, *others))
        olds = zip(reversed(shape), reversed(x.shape))
        if len(shape) < x.dim() or any(n not in (-1, m) and m != 1 for n, m in olds):
            raise BatchError(f"Expand to {shape} takes no {tuple(x.shape)}")
        y = x.expand(shape)
        return y, (x.shape, y.shape, 1 + len(others))

    def backward(self, saved, dy: Tensor):
        shape, y_shape, n = saved
        check_dy(self, dy, y_shape)
        return alone(dy.sum_to_size(shape), n), {}

    def to_torch(self, **_):
        return ExpandModule(self.shape)

    @classmethod
    def from_torch(cls, module):
        return cls(module.shape)


def _check_axes(layer: Layer, x: Tensor, *dims: int):
    """BatchError unless x has these axes."""
    if any(not -x.dim() <= d < x.dim() for d in dims):
        raise BatchError(f"{type(layer).__name__} of axes {dims} takes no {tuple(x.shape)}")


@register
class Permute(Layer):
    """y has the axes of x in the order dims: y's axis k is x's axis dims[k]. Backward inverts it."""

    elementwise = True
    keeps_samples = False
    examples = [((3, 4, 7, 8), dict(dims=(0, 2, 3, 1)))]
    torch_types = (PermuteModule,)
    torch_calls = {"permute": _permute}
    torch_shares_memory = True

    def __init__(self, dims):
        super().__init__()
        self.dims = tuple(dims)
        if sorted(d % len(self.dims) for d in self.dims) != list(range(len(self.dims))):
            raise ValueError(f"dims names each axis once, not {self.dims}")

    def forward(self, x: Tensor):
        if x.dim() != len(self.dims):
            raise BatchError(f"Permute of axes {self.dims} takes no {tuple(x.shape)}")
        y = x.permute(self.dims)
        return y, y.shape

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved)
        order = [d % len(self.dims) for d in self.dims]
        return dy.permute([order.index(d) for d in range(len(order))]), {}

    def to_torch(self, **_):
        return PermuteModule(self.dims)

    @classmethod
    def from_torch(cls, module):
        return cls(module.dims)


@register
class Transpose(Layer):
    """y = x with two axes exchanged. Backward exchanges them again."""

    elementwise = True
    keeps_samples = False
    examples = [((3, 4, 5), dict(dim0=1, dim1=-1))]
    torch_types = (TransposeModule,)
    torch_calls = {
        **{k: lambda x, dim0, dim1: TransposeModule(dim0, dim1) for k in ("transpose", "swapaxes")},
        "t": _t,
    }
    torch_shares_memory = True

    def __init__(self, dim0: int, dim1: int):
        super().__init__()
        self.dim0, self.dim1 = dim0, dim1

    def forward(self, x: Tensor):
        _check_axes(self, x, self.dim0, self.dim1)
        y = x.transpose(self.dim0, self.dim1)
        return y, y.shape

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved)
        return dy.transpose(self.dim0, self.dim1), {}

    def to_torch(self, **_):
        return TransposeModule(self.dim0, self.dim1)

    @classmethod
    def from_torch(cls, module):
        return cls(module.dim0, module.dim1)


@register
class Squeeze(Layer):
    """x without axis dim if its size is 1, else x. Backward restores the shape."""

    elementwise = True
    keeps_samples = False
    examples = [((3, 1, 5), dict(dim=1)), ((3, 4, 1), dict(dim=-2))]
    torch_types = (SqueezeModule,)
    torch_calls = {"squeeze": _squeeze}
    torch_shares_memory = True

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor):
        _check_axes(self, x, self.dim)
        y = x.squeeze(self.dim)
        return y, (x.shape, y.shape)

    def backward(self, saved, dy: Tensor):
        x_shape, y_shape = saved
        check_dy(self, dy, y_shape)
        return dy.reshape(x_shape), {}

    def to_torch(self, **_):
        return SqueezeModule(self.dim)

    @classmethod
    def from_torch(cls, module):
        return cls(module.dim)


@register
class Unsqueeze(Layer):
    """x with a new axis of size 1 at dim. Backward takes it away again."""

    elementwise = True
    keeps_samples = False
    examples = [((3, 4), dict(dim=1))]
    torch_types = (UnsqueezeModule,)
    torch_calls = {"unsqueeze": lambda x, dim: UnsqueezeModule(dim)}
    torch_shares_memory = True

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor):
        if not -x.dim() - 1 <= self.dim <= x.dim():
            raise BatchError(f"Unsqueeze at {self.dim} takes no {tuple(x.shape)}")
        y = x.unsqueeze(self.dim)
        return y, (x.shape, y.shape)

    def backward(self, saved, dy: Tensor):
        x_shape, y_shape = saved
        check_dy(self, dy, y_shape)
        return dy.reshape(x_shape), {}

    def to_torch(self, **_):
        return UnsqueezeModule(self.dim)

    @classmethod
    def from_torch(cls, module):
        return cls(module.dim)
