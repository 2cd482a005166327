"""The check of an operator's arguments: each wrong dtype, shape and layout is an error before it is read."""

import pytest
import torch

from nets.common.errors import BatchError
from nets.kernels import native
from nets.kernels.native.check import LARGEST, MOST_CHANNELS, checker
from nets.kernels.native.declare import _DESCRIPTIONS, DTYPES

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no compiler here: {native.reason}")

N, C, OUT, H, W = 2, 3, 5, 4, 6
X, DY, SLOPE = torch.randn(N, C, H, W), torch.randn(N, OUT, H, W), torch.randn(N, C, H, W)
Y, WINNER = torch.randn(N, OUT, H // 2, W // 2), torch.zeros(N, OUT, H // 2, W // 2, dtype=torch.uint8)
WEIGHT, BIAS, CHANNEL = torch.randn(OUT, C, 3, 3), torch.randn(OUT), torch.rand(C)
CALLS = {
    "conv": (X, WEIGHT, BIAS),
    "conv_input_gradient": (DY, WEIGHT),
    "conv_weight_gradient": (X, DY),
    "conv_pool": (X, WEIGHT, BIAS),
    "conv_pool_input_gradient": (Y, WINNER, WEIGHT, H, W),
    "conv_pool_weight_gradient": (X, Y, WINNER),
    "moments": (X,),
    "act_forward": (X, CHANNEL, CHANNEL, CHANNEL, "relu"),
    "bias_act_backward": (X, SLOPE, CHANNEL, "gelu", True),
    "norm_act_backward": (X, SLOPE, CHANNEL, CHANNEL, CHANNEL, CHANNEL, "none", True),
}
TENSORS = [
    (name, i) for name, args in CALLS.items() for i, a in enumerate(args) if isinstance(a, torch.Tensor)
]


def call(name, place, wrong):
    args = list(CALLS[name])
    args[place] = wrong
    return getattr(native, name)(*args)


def test_every_operator_is_tested_and_runs_with_right_arguments():
    on_cpu = {name for name in _DESCRIPTIONS if name not in ("pool", "unpool")}
    assert CALLS.keys() == on_cpu
    for name, args in CALLS.items():
        getattr(native, name)(*args)


@pytest.mark.parametrize("name, place", TENSORS)
def test_a_wrong_dtype_shape_or_layout_of_each_tensor_is_an_error(name, place):
    t = CALLS[name][place]
    for dtype in (torch.int64, torch.complex64, torch.bool):
        with pytest.raises(BatchError, match=f"kernel {name}: .* is {str(dtype)[6:]}"):
            call(name, place, t.to(dtype))
    larger = t.repeat(2, 2, 1, 1) if t.dim() > 1 else t.repeat(2)
    for wrong in (t[..., None], t[0], larger):
        if len(CALLS[name]) == 1 and wrong.dim() == 4:
            continue  # moments of more channels
        with pytest.raises(BatchError, match=f"kernel {name}: .* is "):
            call(name, place, wrong)


def test_images_of_two_dtypes_are_an_error():
    with pytest.raises(BatchError, match="kernel conv_weight_gradient: dy is bfloat16, expected float32"):
        native.conv_weight_gradient(X, DY.bfloat16())
    with pytest.raises(BatchError, match="kernel norm_act_backward: dy is bfloat16, expected float32"):
        call("norm_act_backward", 1, SLOPE.bfloat16())
    with pytest.raises(BatchError, match="kernel conv: x is float64, expected float32 or bfloat16"):
        native.conv(X.double(), WEIGHT, None)


def test_tensors_of_two_devices_are_an_error():
    check = checker("k", "x: images N C H W, bias: float32 C", DTYPES["CPU"])
    with pytest.raises(BatchError, match="kernel k: bias is on meta, expected cpu"):
        check(X, CHANNEL.to("meta"))


def test_sizes_that_do_not_fit_are_an_error():
    with pytest.raises(BatchError, match=r"w is \(5, 4, 3, 3\), expected \(O, C, 3, 3\) with C = 3"):
        native.conv(X, torch.randn(OUT, 4, 3, 3), None)
    with pytest.raises(BatchError, match=r"w is \(5, 3, 5, 5\), expected"):
        native.conv(X, torch.randn(OUT, C, 5, 5), None)
    for height, width in ((H + 2, W), (H, W - 1), (-H, W)):
        with pytest.raises(BatchError, match="kernel conv_pool_input_gradient: "):
            native.conv_pool_input_gradient(Y, WINNER, WEIGHT, height, width)
    native.conv_pool_input_gradient(Y, WINNER, WEIGHT, H + 1, W + 1)  # a row and column in no window


def test_channels_that_are_not_contiguous_are_an_error():
    with pytest.raises(BatchError, match="kernel act_forward: mean isn't contiguous"):
        call("act_forward", 1, torch.rand(2 * C)[::2])


def test_a_batch_without_samples_or_places_has_results_without_numbers():
    for n, h, w in ((0, H, W), (N, 0, W), (N, H, 0)):
        x, dy = torch.empty(n, C, h, w), torch.empty(n, OUT, h, w)
        y, winner = native.conv_pool(x, WEIGHT, BIAS)
        assert native.conv(x, WEIGHT, BIAS).shape == dy.shape and y.shape == (n, OUT, h // 2, w // 2)
        assert native.conv_input_gradient(dy, WEIGHT).shape == x.shape
        assert not native.conv_weight_gradient(x, dy).any()
        assert not native.conv_pool_weight_gradient(x, y, winner).any()
        dx, sums = native.norm_act_backward(x, x, CHANNEL, CHANNEL, CHANNEL, CHANNEL, "gelu", True)
        assert dx.shape == x.shape and not sums.any()
        with pytest.raises(BatchError, match="kernel moments: the batch is empty"):
            native.moments(x)
    with pytest.raises(BatchError, match="C is 0, expected 1 to"):
        native.act_forward(torch.empty(2, 0, 3, 3), *[torch.empty(0)] * 3, "relu")


def test_sizes_that_a_kernel_cannot_count_are_an_error():
    """Expanded tensors, which need no memory."""
    check = checker("k", "x: images N C H W", DTYPES["CPU"])
    one = torch.zeros(1, 1, 1, 1)
    for axis, most in enumerate((LARGEST, MOST_CHANNELS, LARGEST, LARGEST)):
        shape = [1, 1, 1, 1]
        shape[axis] = most
        check(one.expand(shape))
        shape[axis] += 1
        with pytest.raises(BatchError, match=f"is {most + 1}, expected"):
            check(one.expand(shape))
