"""Parts of a tensor: indices as in Python, and one of several chunks."""

import pytest
import torch
from torch import nn

from nets.common.errors import BatchError, ModuleError
from nets.convert.from_torch import from_torch
from nets.layers.indexing import Chunk, Index, Split
from nets.layers.sizes import Size
from tests.convert.test_from_torch import agree, forward

INDICES = [
    0,
    -1,
    slice(1, None),
    (slice(None), 2),
    (..., None),
    (slice(None, None, 2), ..., slice(0, 3)),
    None,
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_an_index_is_pythons_and_its_gradient_is_zero_elsewhere(index):
    agree(forward(lambda self, x: x[index] * 2).double(), torch.randn(3, 4, 5, dtype=torch.float64))
    x = torch.randn(3, 4, 5)
    y, saved = Index(index).forward(x)
    dx, _ = Index(index).backward(saved, torch.ones_like(y))
    assert torch.equal(y, x[index]) and dx.sum() == y.numel() and torch.equal(dx[index], torch.ones_like(y))


def shuffled(self, x):
    """As ShuffleNet's blocks."""
    a, b = x.chunk(2, dim=1)
    b, n = self.conv(b), x.size(1)
    return torch.cat([a, b], 1)[:, : n // 2].contiguous() + b


def split(self, x):
    one, two, three = torch.split(x, [1, 2, 1], 1)
    last = x.split(3, dim=1)[-1]
    top, bottom = self.conv(two).unbind(1)
    return one * three + last - (top + bottom)[:, None]


@pytest.mark.parametrize("of", [shuffled, split])
def test_the_parts_of_an_axis(of):
    agree(
        forward(of, conv=nn.Conv2d(2, 2, 3, padding=1)).double(), torch.randn(2, 4, 5, 6, dtype=torch.float64)
    )


@pytest.mark.parametrize(
    "cls, function",
    [(Chunk, lambda x: x.chunk(2)[0]), (Split, lambda x: x.split(2)[0])],
    ids=["Chunk", "Split"],
)
def test_the_first_part_of_the_first_axis_is_the_default(cls, function):
    x = torch.randn(3, 5)
    assert torch.equal(cls(2)(x), function(x)) and torch.equal(cls.torch_types[0](2)(x), function(x))


def test_an_index_may_hold_the_size_of_another_input():
    index, x, other = (slice(None), slice(0, Size(0, 1))), torch.randn(3, 4), torch.randn(2, 5)
    y, saved = Index(index).forward(x, other)
    assert torch.equal(y, x[:, :2]) and torch.equal(Index(index).to_torch()(x, other), y)
    (dx, none), _ = Index(index).backward(saved, torch.ones_like(y))
    assert none is None and torch.equal(dx, torch.tensor([1.0, 1, 0, 0]).expand(3, 4))


def test_axes_may_be_counted_from_the_end():
    x = torch.randn(2, 4)
    assert torch.equal(Chunk(2, -2, 1)(x), x[1:]) and torch.equal(Chunk(2, -1, 1)(x), x[:, 2:])


def test_lists_are_kept_as_tuples():
    assert Index([0, slice(1, 3)]).index == (0, slice(1, 3)) and Split([1, 2]).sizes == (1, 2)
    assert torch.equal(Index([0, 1])(torch.eye(2)), torch.tensor(0.0))


def test_a_part_of_images_keeps_channels_last():
    x = torch.ones(2, 4, 3, 5).contiguous(memory_format=torch.channels_last)
    y, saved = Chunk(2, 1, 1).forward(x)
    dx, _ = Chunk(2, 1, 1).backward(saved, y)
    assert y.stride(1) == dx.stride(1) == 1 and dx[:, :2].sum() == 0


def test_what_does_not_fit_is_refused():
    for layer, shape in (
        (Index((0, 0, 0)), (2, 2)),
        (Index(5), (2, 2)),
        (Chunk(2, 3), (2, 2)),
        (Chunk(2, 2), (2, 2)),
        (Chunk(2, -3), (2, 2)),
        (Chunk(2, 0, 4), (2, 2)),
        (Split((1, 2), 0, 0), (4, 2)),
    ):
        with pytest.raises(BatchError, match=type(layer).__name__):
            layer.forward(torch.ones(shape))
    with pytest.raises(BatchError, match=r"Chunk along axis 2 takes no \(2, 2\)"):
        Chunk(2, 2).forward(torch.ones(2, 2))
    assert Index((slice(None), Size(0, 1))).num_inputs == 2
    for of in (lambda self, x: x[x > 0], lambda self, x: x[[0, 1]], lambda self, x: x.chunk(2)):
        with pytest.raises(ModuleError):
            from_torch(forward(of))
