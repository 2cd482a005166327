"""The kernels in C++ against float64, autograd, and the library's own operators."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nets.kernels import native
from nets.layers.pool import MaxPool2d
from tests.kernels.common import DTYPES, WINOGRAD, near, off, pictures

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no compiler here: {native.reason}")


SHAPES = [
    (1, 1, 1, 2, 2),
    (2, 3, 5, 1, 4),
    (3, 9, 33, 2, 3),
    (2, 8, 32, 5, 6),
    (5, 24, 64, 7, 4),
    (70, 17, 40, 8, 9),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, c, o, h, w", SHAPES)
def test_convolution_and_its_gradients_are_those_of_float64(n, c, o, h, w, dtype):
    torch.manual_seed(0)
    x, dy, weight, bias = (
        *(pictures(n, k, h, w, dtype=dtype) for k in (c, o)),
        torch.randn(o, c, 3, 3),
        torch.randn(o),
    )
    x64, w64 = x.double().requires_grad_(), weight.double().requires_grad_()
    y64 = F.conv2d(x64, w64, bias.double(), padding=1)
    dx64, dw64 = torch.autograd.grad(y64, [x64, w64], dy.double())
    for last in (True, False):
        a, b = (t if last else t.contiguous() for t in (x, dy))
        near(native.conv(a, weight, bias), y64.detach(), WINOGRAD[dtype])
        near(native.conv_input_gradient(b, weight), dx64, WINOGRAD[dtype])
        near(native.conv_weight_gradient(a, b), dw64, WINOGRAD[dtype])
    filters = weight.contiguous(memory_format=torch.channels_last)
    assert torch.equal(native.conv(x, filters, None), native.conv(x, weight, torch.zeros(o)))


def test_rounding_in_bfloat16_is_less_than_twice_a_plain_convolutions():
    torch.manual_seed(0)
    x, dy = (pictures(9, k, 15, 15, dtype=torch.bfloat16) for k in (64, 96))
    weight = torch.randn(96, 64, 3, 3)
    w16, w64 = weight.bfloat16(), weight.double()
    truth = F.conv2d(x.double(), w64, padding=1)
    assert off(native.conv(x, weight, None), truth) < 2 * off(F.conv2d(x, w16, padding=1), truth)
    truth = F.conv_transpose2d(dy.double(), w64, padding=1)
    assert off(native.conv_input_gradient(dy, weight), truth) < 2 * off(
        F.conv_transpose2d(dy, w16, padding=1), truth
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, c, o, h, w", [s for s in SHAPES if s[3] > 1])
def test_convolution_with_a_pool_is_that_of_float64(n, c, o, h, w, dtype):
    """Where two of a window are nearly equal either may win: gradients are compared for our winners."""
    torch.manual_seed(0)
    x, weight, bias = pictures(n, c, h, w, dtype=dtype), torch.randn(o, c, 3, 3), torch.randn(o)
    x64, w64 = x.double().requires_grad_(), weight.double().requires_grad_()
    conv64 = F.conv2d(x64, w64, bias.double(), padding=1)
    y, winner = native.conv_pool(x, weight, bias)
    windows = conv64.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)  # (N, O, h, w, 4)
    y64 = windows.gather(4, winner.long()[..., None])[..., 0]
    near(y, F.max_pool2d(conv64, 2).detach(), WINOGRAD[dtype])
    near(y, y64.detach(), WINOGRAD[dtype])
    dy = pictures(*y.shape, dtype=dtype)
    dx64, dw64 = torch.autograd.grad(y64, [x64, w64], dy.double())
    near(native.conv_pool_input_gradient(dy, winner, weight, h, w), dx64, WINOGRAD[dtype])
    near(native.conv_pool_weight_gradient(x, dy, winner), dw64, WINOGRAD[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("c, o, h, w", [(16, 16, 2, 2), (24, 5, 5, 4), (7, 40, 7, 7), (33, 24, 4, 3)])
def test_conv_with_pool_of_small_whole_numbers_is_bit_identical_to_max_pool2d(c, o, h, w, dtype):
    """Nothing is rounded, and there are ties: the first of equals wins."""
    torch.manual_seed(0)
    x = torch.randint(-1, 2, (3, c, h, w)).to(dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randint(-1, 2, (o, c, 3, 3)) * 4.0
    weight[:, 2:] = 0
    plain = F.conv2d(x.double(), weight.double(), padding=1)
    layer = MaxPool2d(2)
    y64, saved = layer.forward(plain)
    y, winner = native.conv_pool(x, weight, None)
    assert torch.equal(y.double(), y64)
    dy = torch.randint(-2, 3, y.shape).to(dtype).contiguous(memory_format=torch.channels_last)
    back = layer.backward(saved, dy.double())[0]
    dx = native.conv_pool_input_gradient(dy, winner, weight, h, w)
    dx64 = F.conv_transpose2d(back, weight.double(), padding=1)
    assert torch.equal(dx.double(), dx64)


def test_nan_passes_through_a_convolution_and_its_pool():
    torch.manual_seed(0)
    x, weight = pictures(2, 16, 6, 6, dtype=torch.float32), torch.randn(16, 16, 3, 3)
    x[0, 3, 2, 2] = torch.nan
    plain = F.conv2d(x, weight, padding=1)
    assert native.conv(x, weight, None)[plain.isnan()].isnan().all()
    assert native.conv_pool(x, weight, None)[0][F.max_pool2d(plain, 2).isnan()].isnan().all()
    assert native.conv(x, weight, None)[1].isfinite().all()


def test_weight_gradient_is_the_slope_of_the_loss():
    """Not by autograd: L = Σ dy·conv(x, w) is linear in w, so two values of L give its slope."""
    torch.manual_seed(0)
    x, dy = pictures(2, 3, 4, 5, dtype=torch.float32), pictures(2, 4, 4, 5, dtype=torch.float32)
    dw = native.conv_weight_gradient(x, dy)
    for place in [(0, 0, 0, 0), (3, 2, 2, 2), (1, 1, 1, 0), (2, 0, 0, 2)]:
        w = torch.zeros(4, 3, 3, 3, dtype=torch.float64)
        w[place] = 1
        slope = (F.conv2d(x.double(), w, padding=1) * dy.double()).sum()
        assert abs(dw[place] - slope) < 1e-4


def test_weight_gradient_is_the_same_every_time():
    torch.manual_seed(0)
    x, dy = pictures(9, 24, 15, 15, dtype=torch.bfloat16), pictures(9, 64, 15, 15, dtype=torch.bfloat16)
    first = native.conv_weight_gradient(x, dy)
    assert all(torch.equal(first, native.conv_weight_gradient(x, dy)) for _ in range(3))


def test_moments_of_numbers_far_from_zero():
    torch.manual_seed(0)
    x = (torch.randn(64, 16, 9, 9) + 300).contiguous(memory_format=torch.channels_last)
    mean, var = native.moments(x)
    near(mean, x.double().mean((0, 2, 3)), 1e-6)
    near(var, x.double().var((0, 2, 3), correction=0), 1e-4)


def test_nan_and_infinity_pass_through_activations_and_moments():
    x = torch.zeros(1, 16, 2, 2).contiguous(memory_format=torch.channels_last)
    x[0, 0, 0, 0], x[0, 1, 0, 0], x[0, 2, 0, 0] = torch.nan, torch.inf, -torch.inf
    one, nothing = torch.ones(16), torch.zeros(16)
    relu = native.act_forward(x, nothing, one, nothing, "relu")
    assert torch.equal(relu.isnan(), F.relu(x).isnan())
    assert native.act_forward(x, nothing, one, nothing, "gelu").isnan()[0, 0, 0, 0]
    assert native.moments(x)[1].isnan()[:3].all()


@pytest.mark.deep
def test_numbers_after_the_first_2_to_the_31_are_read():
    """A batch that needs no memory but for its last place: pages that were never written are all the same."""
    c, side = 64, 5800
    numbers = np.zeros(c * side * side, dtype=np.uint16)
    assert numbers.size > 2**31
    x = torch.from_numpy(numbers).view(torch.bfloat16).view(1, side, side, c).permute(0, 3, 1, 2)
    x[0, :, -1, -1] = 1
    mean, _ = native.moments(x)
    near(mean, torch.full((c,), 1 / side**2), 1e-3)
    weight = torch.zeros(1, c, 3, 3)
    weight[0, :, 1, 1] = 1
    y = native.conv(x, weight, None)
    assert y[0, 0, -1, -1] == c and y.count_nonzero() == 1
    dw = native.conv_weight_gradient(x, torch.ones(1, 1, side, side, dtype=torch.bfloat16))
    assert (dw[0, :, 1:, 1:] == 1).all() and not dw[0, :, 0].any()
