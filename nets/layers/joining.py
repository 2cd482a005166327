"""Cat: tensors next to each other along an axis."""

import torch
from torch import Tensor, nn

from nets.common.errors import BatchError
from nets.layers.base import Layer
from nets.layers.checks import check_dy
from nets.layers.registry import register


class CatModule(nn.Module):
    """Cat as a torch.nn module."""

    def __init__(self, dim: int = 0):
        super().__init__()
        self.dim = dim

    def forward(self, *xs: Tensor) -> Tensor:
        return torch.cat(xs, self.dim)


def _cat(tensors, dim=0, axis=None):
    """The module for torch.cat, nn.Identity's for one tensor."""
    return CatModule(dim if axis is None else axis) if len(tensors) > 1 else nn.Identity()


def _example():
    """Images with the four channels of x and six of a convolution of it, as in a DenseNet."""
    from nets.layers.conv import Conv2d
    from nets.layers.graph import Graph

    return Graph({"new": (Conv2d(4, 6, 1), "x"), "y": (Cat(1), "x", "new", "x")})


@register
class Cat(Layer):
    """y = x_1, x_2, … next to each other along axis dim. Each x_k gets its part of dy."""

    num_inputs = None
    examples = [((3, 4, 7, 8), _example)]
    torch_types = (CatModule,)
    torch_calls = dict.fromkeys(("cat", "concat", "concatenate"), _cat)

    def __init__(self, dim: int = 0):
        super().__init__()
        self.dim = dim

    def forward(self, *xs: Tensor):
        others = [(*x.shape[: self.dim % x.dim()], *x.shape[self.dim % x.dim() + 1 :]) for x in xs]
        if len(set(others)) > 1:
            raise BatchError(
                f"Cat along axis {self.dim} takes no {', '.join(str(tuple(x.shape)) for x in xs)}"
            )
        y = torch.cat(xs, self.dim)
        if y.dim() == 4 and xs[0].stride(1) == 1:  # torch.cat keeps channels_last only if all have it
            y = y.contiguous(memory_format=torch.channels_last)
        return y, ([x.shape[self.dim] for x in xs], y.shape)

    def backward(self, saved, dy: Tensor):
        sizes, shape = saved
        check_dy(self, dy, shape)
        return dy.split(sizes, self.dim), {}

    def to_torch(self, **_):
        return CatModule(self.dim)

    @classmethod
    def from_torch(cls, module):
        return cls(module.dim)
