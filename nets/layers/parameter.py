"""A tensor of the net by itself, rather than inside a layer: a parameter, or a constant."""

import torch
from torch import Tensor, nn

from nets.layers.base import Layer
from nets.layers.checks import check_dy
from nets.layers.registry import register


class ParameterModule(nn.Module):
    """Parameter as a torch.nn module."""

    def __init__(self, shape: tuple[int, ...], trained: bool = True):
        super().__init__()
        self.shape, self.trained = tuple(shape), trained
        if trained:
            self.weight = nn.Parameter(torch.zeros(shape))
        else:
            self.register_buffer("weight", torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight.to(x.dtype)  # type: ignore[union-attr]


def _example():
    """y = x·w, with a w for each column."""
    from nets.layers.arithmetic import Mul
    from nets.layers.graph import Graph

    w = Parameter((6,))
    w.params["weight"].copy_(torch.linspace(-1, 1.5, 6))
    return Graph({"w": (w, "x"), "y": (Mul(), "x", "w")})


@register
class Parameter(Layer):
    """y = w, whatever x is, in the dtype of x. So dw = dy and dx = 0.

    shape    of w
    trained  False: w is a buffer, a constant that is saved with the net

    In a Graph it brings a bare tensor into arithmetic. w starts as zeros.
    """

    constant = True
    keeps_samples = False
    examples = [((5, 6), _example)]
    torch_types = (ParameterModule,)

    def __init__(self, shape: tuple[int, ...], trained: bool = True):
        super().__init__()
        self.shape, self.trained = tuple(shape), trained
        (self.params if trained else self.buffers)["weight"] = torch.zeros(self.shape)

    def forward(self, x: Tensor):
        w = self.params["weight"] if self.trained else self.buffers["weight"]
        return w.to(x.dtype) if w.is_floating_point() else w, x.shape

    def backward(self, saved, dy: Tensor, input_grad: bool = True):
        check_dy(self, dy, self.shape)
        dx = dy.new_zeros(()).expand(saved) if input_grad else None
        return dx, {"weight": dy.to(self.params["weight"].dtype)} if self.trained else {}

    def to_torch(self, **_):
        return ParameterModule(self.shape, self.trained)

    @classmethod
    def from_torch(cls, module):
        return cls(module.shape, module.trained)
