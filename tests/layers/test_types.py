"""Numbers stay in their type, on their device and in their layout; sums are taken in float32."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nets.gradcheck import compare
from nets.layers.activations import GELU, ReLU, Scale, Sigmoid, SiLU, Tanh
from nets.layers.adaptive_pool import AdaptiveAvgPool2d
from nets.layers.base import blocks
from nets.layers.conv import Conv2d
from nets.layers.dropout import Dropout
from nets.layers.linear import Flatten, Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import AvgPool2d, GlobalAvgPool, GlobalMaxPool, MaxPool2d
from nets.layers.response_norm import LocalResponseNorm
from nets.layers.whiten import Whiten2d

PICTURES = (2, 4, 9, 8)
LAYERS = {  # name -> (layer, the shape of its input)
    "Linear": (lambda: Linear(6, 5), (4, 6)),
    "Conv2d reference": (lambda: Conv2d(4, 6, 3, stride=2, padding=1, groups=2), PICTURES),
    "Conv2d torch": (lambda: Conv2d(4, 6, 3, stride=2, padding=1, kernel="torch"), PICTURES),
    "Whiten2d": (lambda: Whiten2d(4), PICTURES),
    "MaxPool2d reference": (lambda: MaxPool2d(2), PICTURES),
    "MaxPool2d reference, overlapping": (lambda: MaxPool2d(3, 2, 1), PICTURES),
    "MaxPool2d torch": (lambda: MaxPool2d(3, 2, 1, kernel="torch"), PICTURES),
    "AvgPool2d": (lambda: AvgPool2d(3, 2, 1), PICTURES),
    "AdaptiveAvgPool2d": (lambda: AdaptiveAvgPool2d((4, 5)), PICTURES),
    "GlobalAvgPool": (GlobalAvgPool, PICTURES),
    "GlobalMaxPool": (GlobalMaxPool, PICTURES),
    "BatchNorm2d reference": (lambda: BatchNorm2d(4), PICTURES),
    "BatchNorm2d torch": (lambda: BatchNorm2d(4, kernel="torch"), PICTURES),
    "LocalResponseNorm": (lambda: LocalResponseNorm(3, 0.5), PICTURES),
    **{a.__name__: (a, PICTURES) for a in (Sigmoid, Tanh, ReLU, GELU, SiLU, Dropout, Flatten)},
    "GELU tanh": (lambda: GELU("tanh"), PICTURES),
    "GELU torch": (lambda: GELU(kernel="torch"), PICTURES),
    "SiLU torch": (lambda: SiLU(kernel="torch"), PICTURES),
    "Scale": (lambda: Scale(0.5), PICTURES),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_a_gradient_has_the_type_of_what_it_is_of(name, dtype, training):
    """Also where the weights aren't float32."""
    make, shape = LAYERS[name]
    layer, x = make().to(dtype).train(training), torch.randn(shape).to(dtype)
    y, saved = layer.forward(x)
    dx, grads = layer.backward(saved, torch.ones_like(y))
    assert y.dtype == dx.dtype == dtype
    assert all(g.dtype == dtype for g in grads.values())


@pytest.mark.parametrize("name", ["Linear", "Conv2d reference", "Whiten2d", "BatchNorm2d reference"])
def test_in_bfloat16_sums_are_taken_in_float32(name):
    """With weights in float32, a sum of dy is as exact as one in float64: it isn't rounded on the way."""
    make, shape = LAYERS[name]
    layer = make()
    y, saved = layer.forward(torch.randn(shape).bfloat16())
    dy = torch.randn(y.shape).bfloat16()
    bias = layer.backward(saved, dy)[1]["bias"]
    assert bias.dtype == torch.float32
    assert compare(bias.double(), dy.double().transpose(0, 1).flatten(1).sum(1))[1] < 1e-6


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "name", ["BatchNorm2d reference", "Sigmoid", "Tanh", "GELU", "GELU tanh", "SiLU", "LocalResponseNorm"]
)
def test_in_bfloat16_a_long_formula_is_rounded_once(name, training):
    """dx is the true one, rounded, but for a few on the border: what lies between is float32."""
    make, shape = LAYERS[name]
    layer = make().train(training)
    y, saved = layer.forward(torch.randn(shape).bfloat16())
    dy = torch.randn(y.shape).bfloat16()
    dx, _ = layer.backward(saved, dy)
    truth, _ = layer.to(torch.float64).backward(wide(saved), dy.double())
    assert dx.dtype == torch.bfloat16 and (dx != truth.bfloat16()).double().mean() < 0.01


def wide(saved):
    """Every tensor of what was saved in float64."""
    if isinstance(saved, tuple):
        return tuple(map(wide, saved))
    return saved.double() if torch.is_tensor(saved) else saved


@pytest.mark.parametrize("name", [n for n in LAYERS if n != "BatchNorm2d torch"])  # has no meta kernel
def test_all_stays_on_the_device(name):
    """On "meta", which has shapes and no numbers: a tensor made on the CPU would not mix."""
    make, shape = LAYERS[name]
    layer = make().to("meta")
    y, saved = layer.forward(torch.empty(shape, device="meta"))
    dx, grads = layer.backward(saved, torch.empty_like(y))
    assert all(t.device.type == "meta" for t in (y, dx, *grads.values()))
    assert dx.shape == shape


@pytest.mark.parametrize(
    "layer", [MaxPool2d(3, 2, 1), MaxPool2d(3, 1), AvgPool2d(2), AvgPool2d(3, 2, 1), AdaptiveAvgPool2d(3)]
)
@pytest.mark.parametrize("layout, inner", [(torch.contiguous_format, 3), (torch.channels_last, 1)])
def test_a_pool_keeps_the_layout(layer, layout, inner):
    y, saved = layer.forward(torch.randn(PICTURES).contiguous(memory_format=layout))
    assert y.stride(inner) == 1
    crop = torch.nn.functional.pad(y, (0, 1, 0, 1))[..., :-1, :-1]  # the same layout, with gaps
    for dy in (torch.ones_like(y), crop):
        assert layer.backward(saved, dy)[0].stride(inner) == 1


@pytest.mark.parametrize("layout, inner", [(torch.contiguous_format, 3), (torch.channels_last, 1)])
def test_a_global_max_pool_keeps_the_layout(layout, inner):
    layer = GlobalMaxPool()
    y, saved = layer.forward(torch.randn(PICTURES).contiguous(memory_format=layout))
    assert layer.backward(saved, y)[0].stride(inner) == 1


class Ops(TorchDispatchMode):
    """Notes which operations the library runs."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.__name__.split(".")[0])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "make, theirs",
    [
        (lambda kernel: Conv2d(4, 6, 3, kernel=kernel), "convolution_backward"),
        (lambda kernel: MaxPool2d(3, 2, kernel=kernel), "max_pool2d_with_indices_backward"),
        (lambda kernel: BatchNorm2d(4, kernel=kernel), "native_batch_norm_backward"),
        (lambda kernel: GELU(kernel=kernel), "gelu_backward"),
        (lambda kernel: SiLU(kernel=kernel), "silu_backward"),
    ],
)
def test_the_kernel_says_whose_backward_runs(make, theirs):
    for kernel in ("reference", "torch"):
        layer = make(kernel)
        y, saved = layer.forward(torch.randn(PICTURES))
        with Ops() as ops:
            layer.backward(saved, torch.ones_like(y))
        assert (theirs in ops.names) == (kernel == "torch")
    with pytest.raises(ValueError, match='kernel is "reference", "torch" or "native", not "mine"'):
        make("mine")


def test_blocks(monkeypatch):
    def sizes(n, **options):
        device = options.pop("device", "cpu")
        pairs = list(blocks(torch.empty(n, 3, device=device), torch.empty(n, device=device), **options))
        assert all(len(a) == len(b) for a, b in pairs)
        return [len(a) for a, _ in pairs]

    assert sizes(8, sample_size=2, block_size=6) == [3, 3, 2]
    assert sizes(8, sample_size=1, block_size=4) == [4, 4]
    assert sizes(4, block_size=6) == [2, 2]  # each sample has 3 numbers
    assert sizes(3, sample_size=9, block_size=4) == [1, 1, 1]
    assert sizes(8, sample_size=0, block_size=4) == [4, 4]
    assert sizes(0, sample_size=1) == [0] == sizes(0, sample_size=1, device="meta")
    assert sizes(8, sample_size=1, block_size=4, device="meta") == [8]
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert sizes(8, sample_size=1, block_size=4) == [8]
