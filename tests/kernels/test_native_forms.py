"""The native forms, of one layer and of several, against autograd in float64 and against plain layers."""

import pytest
import torch
from torch.nn import functional as F

from nets.common.errors import SavedError
from nets.kernels import lower, native
from nets.kernels.native_forms import ConvPool, NativeConv2d, NormAct, Pool, WhitenAct
from nets.kernels.registry import Form, Target
from nets.kernels.torch_forms import TorchConv2d
from nets.layers.activations import GELU, ReLU, Tanh
from nets.layers.base import run_backward
from nets.layers.containers import Residual, Sequential
from nets.layers.conv import Conv2d
from nets.layers.linear import Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import GlobalMaxPool, MaxPool2d
from nets.layers.whiten import Whiten2d
from nets.losses import CrossEntropyLoss
from nets.optim.sgd import SGD
from nets.training.step import train_step
from tests.helpers import tensors
from tests.kernels.common import DTYPES, WINOGRAD, form_of, near, off, pictures

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


def small_net(act=GELU):
    def conv(a, b):
        return Conv2d(a, b, 3, padding=1, bias=False)

    return Sequential(
        Whiten2d(3), act(), conv(24, 32), MaxPool2d(2), BatchNorm2d(32), act(),
        Residual(Sequential(conv(32, 32), BatchNorm2d(32), act())),
        conv(32, 16), MaxPool2d(2), BatchNorm2d(16), GlobalMaxPool(), Linear(16, 10),
    )  # fmt: skip


def gradients(net, x, dz):
    z, saved = net.forward(x)
    dx, grads = net.backward(saved, dz.to(z.dtype), input_grad=False)
    assert dx is None and saved == []
    return z, grads


def by_native_convolutions(layer):
    """The layer or net with the convolutions' own form, and nothing fused: what fusing is compared with."""
    if type(layer) is Conv2d:
        return NativeConv2d(layer)
    if isinstance(layer, (Sequential, Residual)):
        children = {name: by_native_convolutions(child) for name, child in layer.children.items()}
        return layer.with_children(children) if isinstance(layer, Sequential) else Residual(**children)
    return layer


@pytest.mark.parametrize("act", [GELU, ReLU])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_native_net_is_no_further_from_float64_than_the_plain_one(dtype, act):
    torch.manual_seed(0)
    net = small_net(act)
    fast = lower(net, "native", CPU, dtype)
    kinds = [type(layer) for layer in fast.children.values()]
    assert kinds[:3] == [WhitenAct, ConvPool, NormAct] and type(fast) is Sequential
    assert {k: id(v) for k, v in fast.params.items()} == {k: id(v) for k, v in net.params.items()}
    assert {k: id(v) for k, v in fast.buffers.items()} == {k: id(v) for k, v in net.buffers.items()}
    x = pictures(40, 3, 17, 18, dtype=dtype)
    dz = torch.randn(40, 10)
    start = {k: v.clone() for k, v in net.buffers.items()}

    def fresh():
        for k, v in net.buffers.items():
            v.copy_(start[k])

    z, grads = gradients(fast, x, dz)
    running = {k: v.clone() for k, v in net.buffers.items()}
    fresh()
    plain_z, plain = gradients(by_native_convolutions(net), x, dz)
    for k, v in net.buffers.items():
        near(running[k], v, 1e-5 if dtype == torch.float32 else 2e-2)
    fresh()
    twin = small_net(act)
    for mine, theirs in ((twin.params, net.params), (twin.buffers, start)):
        for k, v in mine.items():
            v.copy_(theirs[k])
    truth, wanted = gradients(twin.to(torch.float64), x.double(), dz.double())
    assert grads.keys() == wanted.keys()

    for name, t in [("z", truth), *wanted.items()]:
        mine, theirs = (z, plain_z) if name == "z" else (grads[name], plain[name])
        assert off(mine, t) <= 1.5 * off(theirs, t) + 1e-6, name


def test_a_native_net_in_evaluation_equals_the_plain_one():
    torch.manual_seed(0)
    net = small_net()
    fast = lower(net, "native", CPU, torch.float32)
    x = pictures(6, 3, 16, 16, dtype=torch.float32)
    fast.forward(x)
    fast.eval()
    assert not any(layer.training for layer in net.leaves())
    near(fast.forward(x)[0], net.forward(x)[0], 1e-5)
    assert fast.train().training and all(layer.training for layer in net.leaves())


@pytest.mark.parametrize(
    "device, dtype", [("cuda", torch.float64), ("cpu", torch.float64), ("cpu", torch.float16)]
)
def test_other_devices_and_dtypes_get_no_native_form(device, dtype):
    """The library's forms take their place."""
    net = lower(small_net(), "native", torch.device(device), dtype)
    kinds = {type(leaf) for leaf in net.leaves()}
    assert not kinds & set(Form.FORMS["native"]) and TorchConv2d in kinds


def test_without_a_compiler_the_librarys_forms_are_used(monkeypatch):
    monkeypatch.setenv("CXX", "/no/such/compiler")
    native.library.cache_clear()
    try:
        assert native.library() is None and "compiler" in native.reason[-1]
        net = lower(small_net(), "native", CPU, torch.float32)
        assert not {type(leaf) for leaf in net.leaves()} & set(Form.FORMS["native"])
        gradients(net, pictures(2, 3, 9, 9, dtype=torch.float32), torch.randn(2, 10))
    finally:
        native.library.cache_clear()


def test_a_second_backward_under_native_forms_is_one_clear_error():
    net = lower(small_net(), "native", CPU, torch.float32)
    z, saved = net.forward(pictures(2, 3, 9, 9, dtype=torch.float32))
    first = net.backward(saved, z, keep=True)
    second = net.backward(saved, z)
    assert all(torch.equal(first[1][k], second[1][k]) for k in net.params)
    with pytest.raises(SavedError, match="keep=True"):
        net.backward(saved, z)


@pytest.mark.parametrize("dtype", DTYPES)
def test_recompute_works_with_native_forms(dtype):
    """A norm saves its own x. The convolution after it drops its x only if recomputation is on."""

    def run(recompute):
        torch.manual_seed(0)
        convs = [Conv2d(8, 8, 3, padding=1) for _ in range(3)]
        layers = [convs[0], BatchNorm2d(8), GELU(), convs[1], BatchNorm2d(8), convs[2], MaxPool2d(2)]
        net = lower(Sequential(*layers, recompute=recompute), "native", CPU, dtype)
        assert [type(leaf) for leaf in net] == [NativeConv2d, NormAct, NativeConv2d, NormAct, ConvPool]
        x = pictures(2, 8, 6, 6, dtype=dtype)
        y, saved = net.forward(x)
        images = [sum(t.shape == (2, 8, 6, 6) for t in tensors(s)) for s in saved]
        return images, y, *net.backward(saved, torch.ones_like(y))

    images, y, dx, grads = run(False)
    assert images == [1, 1, 1, 1, 1]
    images, y2, dx2, grads2 = run(True)
    assert images == [1, 1, 0, 1, 0]
    assert torch.equal(y, y2) and torch.equal(dx, dx2)
    assert all(torch.equal(grads[k], grads2[k]) for k in grads)


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


@pytest.mark.parametrize("compiler", ["aot_eager", pytest.param("inductor", marks=pytest.mark.deep)])
def test_a_native_step_compiles_whole_and_gives_the_same_losses(compiler):
    torch.manual_seed(0)
    x, y = pictures(4, 3, 9, 9, dtype=torch.float32), torch.tensor([1, 2, 3, 4])
    losses = []
    for compiled in (False, True):
        torch.manual_seed(1)
        net = lower(small_net(), "native", CPU, torch.float32)
        step = train_step(net, CrossEntropyLoss(), SGD(net.params, 0.1, 0.9))
        if compiled:
            step = torch.compile(step, fullgraph=True, backend=compiler)
        losses.append([float(step(x, y, torch.ones(()))[0]) for _ in range(3)])
    assert losses[0][0] != losses[0][2]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
