"""Numbers stay in their dtype and on their device, and sums are taken in float32: every layer and form."""

import copy

import pytest
import torch

from nets.gradcheck import compare
from nets.kernels import lower
from nets.layers.base import run_backward
from nets.layers.conv import Conv2d
from tests.helpers import DEVICES, subjects

MORE = {
    "Conv2d": [((2, 4, 9, 8), dict(in_channels=4, out_channels=6, kernel_size=3, padding=1))],
    "MaxPool2d": [((2, 4, 9, 8), dict(kernel_size=3, stride=1))],
    "AvgPool2d": [((2, 4, 9, 8), dict(kernel_size=3, stride=2, padding=1))],
    **{name: [((2, 4, 9, 8), {})] for name in ("Sigmoid", "Tanh", "ReLU", "GELU", "SiLU", "Dropout")},
}
SUBJECTS = subjects(MORE)
LOW = [  # with the kernels of this project, which serve float32 and bfloat16
    pytest.param(*param.values, dtype, id=f"{param.id}-{str(dtype).removeprefix('torch.')}")
    for dtype in (torch.float32, torch.bfloat16)
    for param in subjects(MORE, dtype)
]


def test_the_native_forms_are_among_the_subjects():
    from nets.kernels import native

    if native.library() is not None:
        ids = " ".join(param.id for param in LOW)
        assert (
            "padding=1)-2x4x9x8-native" in ids
            and "BatchNorm2d(num_features=4,affine=True)-3x4x7x8-native" in ids
        )


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape, make, name, options", SUBJECTS)
def test_a_gradient_has_the_dtype_of_its_tensor(shape, make, name, options, dtype, training):
    """Also where the weights aren't float32."""
    layer, x = make().to(dtype).train(training), torch.randn(shape).to(dtype)
    y, saved = layer.forward(x)
    dx, grads = run_backward(layer, saved, torch.ones_like(y))
    assert y.dtype == dx.dtype == dtype
    assert all(g.dtype == dtype for g in grads.values())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape, make, name, options, dtype", LOW)
def test_low_precision_keeps_the_dtype_and_comes_near_float64(shape, make, name, options, dtype, device):
    """Numbers in dtype, weights and their gradients in float32, near the plain layer in float64."""
    layer, x = make(device), torch.randn(shape, device=device)
    if len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    wide = copy.deepcopy(layer).to(torch.float64)
    wide = getattr(wide, "layers", (wide,))[0]  # the layer that a form stands for
    torch.manual_seed(1)
    y, saved = layer.forward(x.to(dtype))
    dy = torch.randn(y.shape, device=device)
    dx, grads = run_backward(layer, saved, dy.to(dtype))
    assert y.dtype == dx.dtype == dtype
    assert all(g.dtype == torch.float32 for g in grads.values())
    torch.manual_seed(1)
    y64, saved64 = wide.forward(x.to(dtype).double())
    dx64, grads64 = run_backward(wide, saved64, dy.to(dtype).double())
    limit = 2e-5 if dtype == torch.float32 else 2e-2
    for a, b in [(y, y64), (dx, dx64), *((grads[k], grads64[k]) for k in grads)]:
        assert compare(a, b)[1] < limit


HAVE_BIAS = [
    p
    for p in SUBJECTS
    if "reference" in p.id and p.values[2] in ("Linear", "Conv2d", "Whiten2d", "BatchNorm2d")
]
HAVE_BIAS = [p for p in HAVE_BIAS if "bias" in p.values[1]().params and len(p.values[0]) in (2, 4)]


@pytest.mark.parametrize("shape, make, name, options", HAVE_BIAS)
def test_sums_in_bfloat16_are_taken_in_float32(shape, make, name, options):
    """With weights in float32, a sum of dy is as exact as one in float64: it isn't rounded on the way."""
    layer = make()
    y, saved = layer.forward(torch.randn(shape).bfloat16())
    dy = torch.randn(y.shape).bfloat16()
    bias = layer.backward(saved, dy)[1]["bias"]
    assert bias.dtype == torch.float32
    assert compare(bias.double(), dy.double().transpose(0, 1).flatten(1).sum(1))[1] < 1e-6


LONG = ["BatchNorm2d", "Sigmoid", "Tanh", "GELU", "SiLU", "LocalResponseNorm", "AdaptiveAvgPool2d"]
LONG += ["Softmax", "LogSoftmax", "Softplus", "Mish", "ELU", "Hardswish", "LayerNorm", "RMSNorm", "GroupNorm"]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    "shape, make, name, options", [p for p in SUBJECTS if "reference" in p.id and p.values[2] in LONG]
)
def test_a_long_formula_in_bfloat16_is_rounded_once(shape, make, name, options, training):
    """dx is the true one, rounded, but for a few on the border: what lies between is float32."""
    layer = make().train(training)
    y, saved = layer.forward(torch.randn(shape).bfloat16())
    dy = torch.randn(y.shape).bfloat16()
    dx, _ = layer.backward(saved, dy)
    truth, _ = layer.to(torch.float64).backward(wide(saved), dy.double())
    assert dx.dtype == torch.bfloat16 and (dx != truth.bfloat16()).double().mean() < 0.01


def wide(saved):
    """Every tensor of what was saved in float64."""
    if isinstance(saved, tuple) and not isinstance(saved, torch.Size):
        return tuple(map(wide, saved))
    return saved.double() if torch.is_tensor(saved) else saved


@pytest.mark.parametrize("shape, make, name, options", SUBJECTS)
def test_all_tensors_stay_on_the_device(shape, make, name, options):
    """On "meta", which has shapes and no numbers: a tensor made on the CPU would not mix."""
    layer = make().to("meta")
    if type(layer).__name__ == "TorchBatchNorm2d":
        layer = layer.layers[0]  # the library's kernel has no meta form
    y, saved = layer.forward(torch.empty(shape, device="meta"))
    dx, grads = run_backward(layer, saved, torch.empty_like(y))
    assert all(t.device.type == "meta" for t in (y, dx, *grads.values()))
    assert dx.shape == shape


def test_a_form_has_the_dtypes_of_its_layers():
    conv = Conv2d(3, 4, 3)
    form = lower(conv, "torch", "cpu", torch.float32).to(torch.float64)
    assert conv.params["weight"] is form.params["weight"] and conv.params["weight"].dtype == torch.float64
