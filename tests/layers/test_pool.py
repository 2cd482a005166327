"""Facts of the pools: ties, NaN, infinity, layouts, and windows that see padding alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nets.common.errors import BatchError, ModuleError
from nets.convert.from_torch import from_torch
from nets.kernels import lower
from nets.layers.pool import AvgPool2d, GlobalMaxPool, MaxPool2d

PICTURES = (2, 4, 9, 8)


def form(layer, backend, dtype=torch.float64):
    return lower(layer, backend, "cpu", dtype)


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("stride", [2, 1])
def test_max_pool_of_nan_and_minus_infinity(backend, stride):
    """NaN wins and takes the gradient; of a window of −inf the first is the winner."""
    nan, inf = float("nan"), float("inf")
    x = torch.tensor([[1.0, nan, -inf, -inf], [3.0, 2.0, -inf, -inf]])[None, None].double()
    layer = form(MaxPool2d(2, stride), backend)
    y, saved = layer.forward(x)
    dx, _ = layer.backward(saved, torch.ones_like(y))
    leaf = x.clone().requires_grad_()
    F.max_pool2d(leaf, 2, stride).sum().backward()
    assert y[0, 0, 0, 0].isnan() and y[0, 0, 0, -1] == -inf
    assert dx[0, 0, 0, 1] == leaf.grad[0, 0, 0, 1] > 0
    assert torch.equal(dx, leaf.grad)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_the_first_of_equals_in_row_order_gets_the_gradient(backend):
    layer = form(MaxPool2d(2), backend)
    x = torch.tensor([[1.0, 5.0], [5.0, 5.0]])[None, None].double()
    y, saved = layer.forward(x)
    assert layer.backward(saved, y)[0].flatten().tolist() == [0, 5, 0, 0]


@pytest.mark.parametrize(
    "size, dtype",
    [
        *(((2**15, 1), torch.int16), ((1, 2**15), torch.int16), ((2**13, 4), torch.int16)),
        *(((2**15, 2), torch.int32), ((2, 2**15), torch.int32), ((2**15 + 1, 1), torch.int32)),
    ],
)
def test_max_pool_saves_its_winners_in_the_smallest_type_that_holds_them(size, dtype):
    """The last place of all, too, gets its gradient."""
    x = torch.randn(1, 1, *size)
    layer = MaxPool2d(1)
    _, saved = layer.forward(x)
    assert saved[0].dtype == dtype
    assert torch.equal(layer.backward(saved, x)[0], x)


@pytest.mark.parametrize("layer", [MaxPool2d(2), MaxPool2d(2, 1)], ids=["disjoint", "overlapping"])
def test_an_infinite_gradient_reaches_only_its_winner(layer):
    x = torch.randn(1, 1, 5, 5, dtype=torch.float64)
    y, saved = layer.forward(x)
    dy = torch.ones_like(y)
    dy[y == y.max()] = float("inf")
    dx, _ = layer.backward(saved, dy)
    assert not dx.isnan().any() and (dx == float("inf")).sum() == 1


@pytest.mark.parametrize("layer", [AvgPool2d(3, 1, 1), MaxPool2d(3, 1, 1)])
def test_a_padded_pool_keeps_channels_last_again_and_again(layer):
    """Its dx is cropped and so has gaps: the next backward must recognize the layout."""
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    y, saved = layer.forward(x)
    once, _ = layer.backward(saved, x)
    twice, _ = layer.backward(saved, once)
    assert y.stride(1) == once.stride(1) == twice.stride(1) == 1


LAYOUTS = pytest.mark.parametrize(
    "layout, inner",
    [(torch.contiguous_format, 3), (torch.channels_last, 1)],
    ids=["contiguous", "channels_last"],
)


@pytest.mark.parametrize("layer", [MaxPool2d(3, 2, 1), MaxPool2d(3, 1), AvgPool2d(2), AvgPool2d(3, 2, 1)])
@LAYOUTS
def test_a_pool_keeps_the_layout(layer, layout, inner):
    y, saved = layer.forward(torch.randn(PICTURES).contiguous(memory_format=layout))
    assert y.stride(inner) == 1
    crop = F.pad(y, (0, 1, 0, 1))[..., :-1, :-1]  # the same layout, with gaps
    for dy in (torch.ones_like(y), crop):
        assert layer.backward(saved, dy)[0].stride(inner) == 1


@LAYOUTS
def test_a_global_max_pool_keeps_the_layout(layout, inner):
    layer = GlobalMaxPool()
    y, saved = layer.forward(torch.randn(PICTURES).contiguous(memory_format=layout))
    assert layer.backward(saved, y)[0].stride(inner) == 1


@pytest.mark.parametrize("turned", [False, True])
def test_a_padded_max_pool_dilated_by_more_than_the_picture_is_refused(turned):
    """A window could lie in the padding alone, on both sides of the picture."""
    both = (lambda a, b: (b, a)) if turned else (lambda a, b: (a, b))
    layer = MaxPool2d(both(2, 1), dilation=both(3, 1), padding=both(1, 0))
    with pytest.raises(BatchError, match=r"dilation .* is larger than the image"):
        layer.forward(torch.randn(1, 1, *both(2, 5)))
    assert layer.forward(torch.randn(1, 1, *both(3, 5)))[0].shape[2:] == both(1, 5)
    assert MaxPool2d(1, dilation=5).forward(torch.randn(1, 1, 3, 3))[0].shape[2:] == (3, 3)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_a_max_pool_window_that_steps_over_the_picture_is_refused(backend):
    """Left and right of it, it sees padding alone; the library's index then lies outside the picture."""
    layer = form(MaxPool2d((1, 2), (1, 3), padding=(0, 1), dilation=(1, 2)), backend)
    with pytest.raises(BatchError, match=r"dilation .* is larger than the image"):
        layer.forward(torch.ones(1, 1, 1, 1))
    assert layer.forward(torch.ones(1, 1, 1, 2))[0].item() == 1


REFUSED = {
    "AvgPool2d with ceil_mode=True": nn.AvgPool2d(2, ceil_mode=True),
    "AvgPool2d with divisor_override=3": nn.AvgPool2d(2, divisor_override=3),
    "AvgPool2d with count_include_pad=False": nn.AvgPool2d(2, padding=(0, 1), count_include_pad=False),
    "MaxPool2d with ceil_mode=True": nn.MaxPool2d(2, ceil_mode=True),
    "MaxPool2d with return_indices=True": nn.MaxPool2d(2, return_indices=True),
}


@pytest.mark.parametrize("words", REFUSED)
def test_options_of_a_module_that_no_pool_has_are_refused(words):
    with pytest.raises(ModuleError, match=words):
        from_torch(REFUSED[words])
    for padding in (0, (0, 0)):  # without padding there is none to count
        assert type(from_torch(nn.AvgPool2d(2, padding=padding, count_include_pad=False))) is AvgPool2d


def test_a_call_of_max_pool2d_has_the_options_and_defaults_of_the_module():
    call = MaxPool2d.torch_calls["max_pool2d"]
    assert repr(call(None, 2)) == repr(nn.MaxPool2d(2)) and call(None, 2).return_indices is False
    other = call(None, 3, 2, 1, 4, True, True)
    assert repr(other) == repr(nn.MaxPool2d(3, 2, 1, 4, True, True)) and other.return_indices
