"""Arithmetic of two tensors: sum, difference, product, quotient and matrix product.

Shapes broadcast as in torch. Where an operand is repeated along an axis, each of its numbers is used
several times, so its gradient is the sum over the repeats (`reduced`).
"""

import torch
from torch import Tensor, nn

from nets.common.errors import BatchError, Unsupported
from nets.layers.base import Layer
from nets.layers.checks import check_dy
from nets.layers.registry import Operand, register


def joint(a: torch.Size, b: torch.Size) -> torch.Size:
    """The shape that two shapes broadcast to."""
    return a if a == b else torch.broadcast_shapes(a, b)


def reduced(dy: Tensor, shape: torch.Size) -> Tensor:
    """The gradient of an operand of this shape that was broadcast to the shape of dy."""
    return dy if dy.shape == shape else dy.sum_to_size(shape)


def check_broadcast(layer: Layer, a: torch.Size, b: torch.Size):
    """BatchError unless the shapes a and b broadcast to one."""
    if a != b and any(m != n and m != 1 and n != 1 for m, n in zip(reversed(a), reversed(b))):
        raise BatchError(f"{type(layer).__name__}: shapes {tuple(a)} and {tuple(b)} don't broadcast")


class AffineModule(nn.Module):
    """Affine as a torch.nn module."""

    def __init__(self, factor: float = 1.0, shift: float = 0.0):
        super().__init__()
        self.factor, self.shift = factor, shift

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.shift


@register
class Affine(Layer):
    """y = s·x + c with constants s and c, so dx = s·dy. Examples are 1 − x and x / 2 + 0.5."""

    elementwise = True
    examples = [((5, 6), dict(factor=-1.0, shift=1.0))]
    torch_types = (AffineModule,)

    def __init__(self, factor: float = 1.0, shift: float = 0.0):
        super().__init__()
        self.factor, self.shift = factor, shift

    def forward(self, x: Tensor):
        return x * self.factor + self.shift, x.shape

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved)
        return dy * self.factor, {}

    def to_torch(self, **_):
        return AffineModule(self.factor, self.shift)

    @classmethod
    def from_torch(cls, module):
        return cls(module.factor, module.shift)


class ScaleModule(nn.Module):
    """Scale (activations.py) as a torch.nn module."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class AddModule(nn.Module):
    """Add as a torch.nn module."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class SubModule(nn.Module):
    """Sub as a torch.nn module."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a - b


class MulModule(nn.Module):
    """Mul as a torch.nn module."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b


class DivModule(nn.Module):
    """Div as a torch.nn module."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a / b


class MatMulModule(nn.Module):
    """MatMul as a torch.nn module."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ b


def _number(value) -> float:
    """A constant operand. Unsupported if it is anything but a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Unsupported(f"arithmetic with {value}")
    return float(value)


def _add(a, b, *, alpha=1):
    if isinstance(a, Operand) and isinstance(b, Operand):
        if alpha != 1:
            raise Unsupported(f"add with alpha={alpha}")
        return AddModule()
    return AffineModule(1.0, alpha * _number(b) if isinstance(a, Operand) else _number(a))


def _sub(a, b, *, alpha=1):
    if alpha != 1:
        raise Unsupported(f"sub with alpha={alpha}")
    if isinstance(a, Operand) and isinstance(b, Operand):
        return SubModule()
    return AffineModule(1.0, -_number(b)) if isinstance(a, Operand) else AffineModule(-1.0, _number(a))


def _mul(a, b):
    if isinstance(a, Operand) and isinstance(b, Operand):
        return MulModule()
    return ScaleModule(_number(b if isinstance(a, Operand) else a))


def _div(a, b, *, rounding_mode=None):
    if rounding_mode is not None or not isinstance(a, Operand):
        raise Unsupported("division of a number, or one that rounds")
    return DivModule() if isinstance(b, Operand) else ScaleModule(1 / _number(b))


def _example(operator):
    """An example of an operator: a graph that applies it to two linear functions of x."""

    def make():
        from nets.layers.graph import Graph  # which imports this module
        from nets.layers.linear import Linear

        nodes = {"a": (Linear(6, 4), "x"), "b": (Linear(6, 4), "x"), "y": (operator(), "a", "b")}
        return Graph(nodes)

    return make


def _quotient():
    """An example of Div: the divisor is a sum of squares, and so not near 0."""
    from nets.layers.graph import Graph

    nodes = {"square": (Mul(), "x", "x"), "b": (Affine(1.0, 1.0), "square"), "y": (Div(), "x", "b")}
    return Graph(nodes)


def _products():
    """An example of MatMul: (N, 4, 4) times (N, 4, 5)."""
    from nets.layers.graph import Graph
    from nets.layers.linear import Linear

    return Graph({"a": (Linear(5, 4), "x"), "y": (MatMul(), "a", "x")})


@register
class Add(Layer):
    """y = a + b, so da = dy and db = dy, each summed over the axes along which it was broadcast."""

    num_inputs = 2
    elementwise = True
    examples = [((5, 6), _example(lambda: Add()))]
    torch_types = (AddModule,)
    torch_calls = dict.fromkeys(("add", "iadd", "add_"), _add)
    torch_inplace_calls = ("iadd", "add_")

    def forward(self, a: Tensor, b: Tensor):
        check_broadcast(self, a.shape, b.shape)
        return a + b, (a.shape, b.shape)

    def backward(self, saved, dy: Tensor):
        a_shape, b_shape = saved
        check_dy(self, dy, joint(a_shape, b_shape))
        return (reduced(dy, a_shape), reduced(dy, b_shape)), {}

    def to_torch(self, **_):
        return AddModule()


@register
class Sub(Layer):
    """y = a − b, so da = dy and db = −dy, each summed over the axes along which it was broadcast."""

    num_inputs = 2
    elementwise = True
    examples = [((5, 6), _example(lambda: Sub()))]
    torch_types = (SubModule,)
    torch_calls = dict.fromkeys(("sub", "isub", "sub_"), _sub)
    torch_inplace_calls = ("isub", "sub_")

    def forward(self, a: Tensor, b: Tensor):
        check_broadcast(self, a.shape, b.shape)
        return a - b, (a.shape, b.shape)

    def backward(self, saved, dy: Tensor):
        a_shape, b_shape = saved
        check_dy(self, dy, joint(a_shape, b_shape))
        return (reduced(dy, a_shape), -reduced(dy, b_shape)), {}

    def to_torch(self, **_):
        return SubModule()


@register
class Mul(Layer):
    """y = a·b, entry by entry. By the product rule da = dy·b and db = dy·a, summed where broadcast."""

    num_inputs = 2
    elementwise = True
    examples = [((5, 6), _example(lambda: Mul()))]
    torch_types = (MulModule,)
    torch_calls = dict.fromkeys(("mul", "imul", "mul_"), _mul)
    torch_inplace_calls = ("imul", "mul_")

    def forward(self, a: Tensor, b: Tensor):
        check_broadcast(self, a.shape, b.shape)
        return a * b, (a, b)

    def backward(self, saved, dy: Tensor):
        a, b = saved
        check_dy(self, dy, joint(a.shape, b.shape))
        return (reduced(dy * b, a.shape), reduced(dy * a, b.shape)), {}

    def to_torch(self, **_):
        return MulModule()


@register
class Div(Layer):
    """y = a / b, entry by entry: da = dy / b and db = −dy·a / b² = −da·y, summed where broadcast."""

    num_inputs = 2
    elementwise = True
    examples = [((5, 6), _quotient)]
    torch_types = (DivModule,)
    torch_calls = dict.fromkeys(("div", "truediv", "itruediv", "div_", "true_divide"), _div)
    torch_inplace_calls = ("itruediv", "div_")

    def forward(self, a: Tensor, b: Tensor):
        check_broadcast(self, a.shape, b.shape)
        return a / b, (a, b)

    def backward(self, saved, dy: Tensor):
        a, b = saved
        check_dy(self, dy, joint(a.shape, b.shape))
        da = dy / b
        return (reduced(da, a.shape), -reduced(da * (a / b), b.shape)), {}

    def to_torch(self, **_):
        return DivModule()


@register
class MatMul(Layer):
    """y = a b, with a (…, M, K), b (…, K, N), y (…, M, N); the axes before the last two broadcast.

    y_mn = Σ_k a_mk b_kn, so da = dy bᵀ and db = aᵀ dy, as for Linear.
    """

    num_inputs = 2
    examples = [((3, 4, 5), _products)]
    torch_types = (MatMulModule,)
    torch_calls = {name: lambda a, b: MatMulModule() for name in ("matmul", "bmm", "mm")}

    def forward(self, a: Tensor, b: Tensor):
        if a.dim() < 2 or b.dim() < 2 or a.shape[-1] != b.shape[-2]:
            raise BatchError(
                f"MatMul takes (…, M, K) and (…, K, N), not {tuple(a.shape)} and {tuple(b.shape)}"
            )
        check_broadcast(self, a.shape[:-2], b.shape[:-2])
        return a @ b, (a, b)

    def backward(self, saved, dy: Tensor):
        a, b = saved
        check_dy(self, dy, (*joint(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]))
        return (reduced(dy @ b.mT, a.shape), reduced(a.mT @ dy, b.shape)), {}

    def to_torch(self, **_):
        return MatMulModule()
