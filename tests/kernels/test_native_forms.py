"""The native forms, of one layer and of several, against autograd in float64 and against plain layers."""

import pytest
import torch
from torch.nn import functional as F

from nets.kernels import native
from nets.kernels.native_forms import ConvPool, NativeConv2d, NormAct, Pool, WhitenAct
from nets.kernels.registry import Target
from nets.kernels.torch_forms import TorchConv2d
from nets.layers.activations import GELU, ReLU, Tanh
from nets.layers.base import run_backward
from nets.layers.containers import Sequential
from nets.layers.conv import Conv2d
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import MaxPool2d
from nets.layers.whiten import Whiten2d
from tests.kernels.common import DTYPES, WINOGRAD, form_of, near, pictures

CPU = torch.device("cpu")
ROUNDED = {torch.float32: 2e-6, torch.bfloat16: 5e-3}  # results rounded to the type
pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no compiler here: {native.reason}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
def test_conv2d_agrees_with_float64(dtype, bias):
    torch.manual_seed(0)
    plain = Conv2d(5, 6, 3, padding=1, bias=bias)
    layer = form_of(plain, dtype=dtype)
    x, dy = pictures(3, 5, 6, 7, dtype=dtype), pictures(3, 6, 6, 7, dtype=dtype)
    dx, grads = layer.backward(layer.forward(x)[1], dy)
    assert type(layer) is NativeConv2d and grads.keys() == layer.params.keys()
    plain.to(torch.float64)
    y64, saved = plain.forward(x.double())
    dx64, grads64 = plain.backward(saved, dy.double())
    layer.to(torch.float32)
    near(layer.forward(x)[0], y64, WINOGRAD[dtype])
    near(dx, dx64, WINOGRAD[dtype])
    for name, g in grads64.items():
        near(grads[name], g, WINOGRAD[dtype])


@pytest.mark.parametrize("options", [dict(stride=2, padding=1), dict(), dict(padding=1, groups=2)])
def test_other_convolutions_take_the_librarys_backward(options):
    layer = Conv2d(4, 6, 3, **options)
    assert type(form_of(layer)) is TorchConv2d


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3, 5, 6, 8), (2, 8, 7, 5)])
def test_conv_and_pool_agree_with_the_plain_layers(shape, bias, dtype):
    """Small whole numbers: nothing is rounded and ties are many, so the results are the same to the bit."""
    torch.manual_seed(0)
    conv, pool = Conv2d(shape[1], 6, 3, padding=1, bias=bias), MaxPool2d(2)
    for t in conv.params.values():
        t.copy_(torch.randint(-1, 2, t.shape) * 4)
    form, plain = form_of(conv, pool, dtype=dtype), Sequential(conv, pool)
    assert type(form) is ConvPool
    x = torch.randint(-1, 2, shape).to(dtype).contiguous(memory_format=torch.channels_last)
    y, saved = form.forward(x)
    dy = torch.randint(-2, 3, y.shape).to(dtype)
    dx, grads = form.backward(saved, dy)
    z, other = plain.forward(x)
    dx2, grads2 = plain.backward(other, dy)
    assert torch.equal(y, z) and torch.equal(dx, dx2)
    assert all(torch.equal(grads[k], grads2[f"0.{k}"]) for k in conv.params)
    assert form.backward(form.forward(x)[1], dy, input_grad=False)[0] is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("act", [ReLU, GELU])
@pytest.mark.parametrize("last", [True, False])
def test_whitening_and_its_activation_agree_with_autograd(last, act, dtype):
    torch.manual_seed(0)
    whiten = Whiten2d(3)
    whiten.params["bias"].normal_()
    stage = form_of(whiten, act(), dtype=dtype)
    assert type(stage) is WhitenAct
    x = pictures(6, 3, 9, 7, dtype=dtype, last=last)
    x64, b64 = x.double().requires_grad_(), whiten.params["bias"].double().requires_grad_()
    y64 = {ReLU: F.relu, GELU: F.gelu}[act](F.conv2d(x64, whiten.buffers["weight"].double(), b64))
    dy = pictures(*y64.shape, dtype=dtype, last=last)
    dx64, db64 = torch.autograd.grad(y64, [x64, b64], dy.double())
    y, saved = stage.forward(x)
    dx, grads = stage.backward(saved, dy)
    for a, b in [(y, y64.detach()), (dx, dx64), (grads["bias"], db64)]:
        near(a, b, WINOGRAD[dtype])
    none, again = stage.backward(saved, dy, input_grad=False)
    assert none is None and torch.equal(again["bias"], grads["bias"])
    assert torch.equal(stage.output(saved), y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("act", [None, ReLU, GELU])
@pytest.mark.parametrize("shape", [(3, 1, 5, 3), (5, 24, 3, 3), (2, 16, 4, 4), (40, 20, 31, 31)])
def test_norm_and_activation_agree_with_autograd(shape, act, training, dtype):
    torch.manual_seed(0)
    norm = BatchNorm2d(shape[1], momentum=0.3)
    norm.params["weight"].uniform_(0.5, 1.5)
    norm.params["bias"].uniform_(-1, 1)
    norm.buffers["running_mean"].uniform_(-1, 1)
    stage = form_of(norm, *([act()] if act else []), dtype=dtype)
    assert type(stage) is NormAct
    stage.train(training)
    x = (torch.randn(shape) * 2 + 3).to(dtype).contiguous(memory_format=torch.channels_last)
    dy = pictures(*shape, dtype=dtype)
    x64, *params = (t.double().requires_grad_() for t in (x, *norm.params.values()))
    mean, var = (b.double() for b in norm.buffers.values())
    y64 = F.batch_norm(x64, mean, var, *params, training, 0.3, norm.eps)
    y64 = {None: lambda v: v, ReLU: F.relu, GELU: F.gelu}[act](y64)
    wanted = torch.autograd.grad(y64, [x64, *params], dy.double())
    kept = x.clone(), dy.clone()
    y, saved = stage.forward(x)
    dx, grads = stage.backward(saved, dy)
    assert y.dtype == dx.dtype == dtype and list(grads) == list(norm.params)
    near(y, y64.detach(), ROUNDED[dtype])
    near(dx, wanted[0], 5 * ROUNDED[dtype])
    of_sums = 1e-4 if act is GELU and dtype == torch.bfloat16 else 1e-5  # its slope is rougher there
    near(grads["weight"], wanted[1], of_sums)
    near(grads["bias"], wanted[2], of_sums)
    near(norm.buffers["running_mean"], mean, 1e-5)
    near(norm.buffers["running_var"], var, 1e-5)
    assert torch.equal(stage.output(saved), y)
    assert torch.equal(stage.backward(saved, dy)[0], dx)
    assert torch.equal(x, kept[0]) and torch.equal(dy, kept[1])


def test_layers_that_only_look_like_a_forms_get_none():
    """A subclass may compute something else; another geometry or activation needs other kernels."""

    class MyConv(Conv2d):
        pass

    class MyNorm(BatchNorm2d):
        pass

    target = Target(CPU, torch.float32)
    assert NativeConv2d.count([MyConv(3, 4, 3, padding=1)], target) == 0
    assert NormAct.count([MyNorm(3)], target) == 0
    conv = Conv2d(3, 4, 3, padding=1)
    for pool in (MaxPool2d(2, 1), MaxPool2d(2, padding=1), MaxPool2d(3), MaxPool2d(2, dilation=2)):
        assert ConvPool.count([conv, pool], target) == 0
    assert ConvPool.count([conv, MaxPool2d(2)], target) == 2
    assert ConvPool.count([Conv2d(3, 4, 3), MaxPool2d(2)], target) == 0
    for act, count in ((Tanh(), 1), (GELU("tanh"), 1), (GELU(), 2), (ReLU(), 2)):
        assert NormAct.count([BatchNorm2d(3), act], target) == count
    assert WhitenAct.count([Whiten2d(3)], target) == 0 == WhitenAct.count([Whiten2d(3), Tanh()], target)
    assert Pool.count([MaxPool2d(2)], target) == 0  # a GPU's


@pytest.mark.parametrize("layers", [[BatchNorm2d(4), ReLU()], [Conv2d(4, 4, 3, padding=1), MaxPool2d(2)]])
def test_forms_refuse_the_batches_that_their_layers_refuse(layers):
    form = form_of(*layers)
    with pytest.raises(ValueError, match=f"{type(layers[0]).__name__} takes images"):
        form.forward(torch.randn(2, 4))
    y, saved = form.forward(torch.randn(2, 4, 4, 4))
    assert run_backward(form, saved, torch.ones_like(y))[0].shape == (2, 4, 4, 4)
