"""Parts of a tensor: basic indexing, and one of several chunks. Backward puts dy into zeros."""

from typing import Any

import torch
from torch import Tensor, nn

from nets.common.errors import BatchError, Unsupported
from nets.layers.base import Layer
from nets.layers.checks import check_dy
from nets.layers.registry import Operand, register
from nets.layers.reshaping import alone
from nets.layers.sizes import Computed, Size, num_inputs, resolve


class IndexModule(nn.Module):
    """Index as a torch.nn module."""

    def __init__(self, index):
        super().__init__()
        self.index = index

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return x[resolve(self.index, (x, *others))]


class ChunkModule(nn.Module):
    """Chunk as a torch.nn module."""

    def __init__(self, chunks: int, dim: int = 0, index: int = 0):
        super().__init__()
        self.chunks, self.dim, self.index = chunks, dim, index

    def forward(self, x: Tensor) -> Tensor:
        return x.chunk(self.chunks, self.dim)[self.index]


class SplitModule(nn.Module):
    """Split as a torch.nn module."""

    def __init__(self, sizes, dim: int = 0, index: int = 0):
        super().__init__()
        self.sizes, self.dim, self.index = sizes, dim, index

    def forward(self, x: Tensor) -> Tensor:
        return x.split(self.sizes, self.dim)[self.index]


def _basic(index: Any) -> bool:
    """Whether an index is of numbers, sizes, slices, None and … alone."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(isinstance(p, (int, slice, Size, Computed, type(None), type(...))) for p in parts)


def _getitem(x, index):
    if not isinstance(x, Operand) or not _basic(index):
        raise Unsupported(f"an index of {type(index).__name__}s that aren't numbers and slices")
    return IndexModule(index)


def _select(x, dim, index):
    if dim < 0:
        raise Unsupported("select of an axis from the end")
    return IndexModule((*[slice(None)] * dim, index))


def _split(x, split_size_or_sections, dim=0, *, index):
    return SplitModule(split_size_or_sections, dim, index)


def _unbind(x, dim=0, *, index):
    return _select(x, dim, index)


@register
class Index(Layer):
    """y = x[index] with numbers, slices, None and …, as in Python. dx is dy there and 0 elsewhere."""

    keeps_samples = False
    examples = [
        ((3, 4, 5), dict(index=(slice(None), 0))),
        ((3, 8, 7), dict(index=(..., slice(1, Size(2), 2), None))),
    ]
    torch_types = (IndexModule,)
    torch_calls = {"getitem": _getitem, "select": _select, "unbind": _unbind}
    torch_shares_memory = True

    def __init__(self, index):
        super().__init__()
        self.index = tuple(index) if isinstance(index, list) else index
        self.num_inputs = num_inputs(self.index)

    def forward(self, x: Tensor, *others: Tensor):
        index = resolve(self.index, (x, *others))
        try:
            y = x[index]
        except IndexError as e:
            raise BatchError(f"Index {index} takes no {tuple(x.shape)}: {str(e).splitlines()[0]}") from None
        return y, (index, x.shape, y.shape, 1 + len(others))

    def backward(self, saved, dy: Tensor):
        index, x_shape, y_shape, n = saved
        check_dy(self, dy, y_shape)
        dx = dy.new_zeros(x_shape)
        dx[index] = dy
        return alone(dx, n), {}

    def to_torch(self, **_):
        return IndexModule(self.index)

    @classmethod
    def from_torch(cls, module):
        return cls(module.index)


class _Part(Layer):
    """One of the parts that an axis is cut into. dx is dy there and 0 elsewhere."""

    keeps_samples = False
    torch_shares_memory = True

    dim: int
    index: int

    def _parts(self, x: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def forward(self, x: Tensor):
        if not -x.dim() <= self.dim < x.dim():
            raise BatchError(f"{type(self).__name__} along axis {self.dim} takes no {tuple(x.shape)}")
        try:
            parts = self._parts(x)
            y = parts[self.index]
        except (RuntimeError, IndexError):
            raise BatchError(f"{self!r} takes no {tuple(x.shape)}") from None
        start = sum(part.shape[self.dim] for part in parts[: self.index % len(parts)])
        return y, (start, x.shape, y.shape)

    def backward(self, saved, dy: Tensor):
        start, x_shape, y_shape = saved
        check_dy(self, dy, y_shape)
        channels_last = dy.dim() == 4 and dy.stride(1) == 1
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        dx = torch.empty(x_shape, dtype=dy.dtype, device=dy.device, memory_format=memory_format).zero_()
        dx.narrow(self.dim, start, y_shape[self.dim]).copy_(dy)
        return dx, {}


@register
class Chunk(_Part):
    """Part `index` of x cut into `chunks` parts of one size along axis dim; the last one may be smaller."""

    examples = [((3, 4, 5, 4), dict(chunks=2, dim=1, index=1)), ((3, 5), dict(chunks=3, dim=-1, index=2))]
    torch_types = (ChunkModule,)
    torch_calls = {"chunk": lambda x, chunks, dim=0, *, index: ChunkModule(chunks, dim, index)}

    def __init__(self, chunks: int, dim: int = 0, index: int = 0):
        super().__init__()
        self.chunks, self.dim, self.index = chunks, dim, index

    def _parts(self, x: Tensor):
        return x.chunk(self.chunks, self.dim)

    def to_torch(self, **_):
        return ChunkModule(self.chunks, self.dim, self.index)

    @classmethod
    def from_torch(cls, module):
        return cls(module.chunks, module.dim, module.index)


@register
class Split(_Part):
    """Part `index` of x cut along axis dim into parts of the given sizes, or all of one size."""

    examples = [((3, 5), dict(sizes=(2, 3), dim=1, index=1)), ((3, 5), dict(sizes=2, dim=1, index=2))]
    torch_types = (SplitModule,)
    torch_calls = {"split": _split}

    def __init__(self, sizes, dim: int = 0, index: int = 0):
        super().__init__()
        self.sizes = tuple(sizes) if isinstance(sizes, (list, tuple)) else sizes
        self.dim, self.index = dim, index

    def _parts(self, x: Tensor):
        return x.split(self.sizes, self.dim)

    def to_torch(self, **_):
        return SplitModule(self.sizes, self.dim, self.index)

    @classmethod
    def from_torch(cls, module):
        return cls(module.sizes, module.dim, module.index)
