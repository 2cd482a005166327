"""The kernels in C++ against float64 and autograd, and the stages that use them against plain layers."""

import pytest
import torch
from torch.nn import functional as F

from nets.gradcheck import compare
from nets.kernels import native
from nets.kernels.native import cpp
from nets.kernels.native_forms import ConvPool, Fused, NormAct, WhitenAct, fuse
from nets.layers.activations import GELU, ReLU
from nets.layers.containers import Residual, Sequential
from nets.layers.conv import Conv2d
from nets.layers.linear import Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import GlobalMaxPool, MaxPool2d
from nets.layers.whiten import Whiten2d

CPU = torch.device("cpu")
NEEDS = pytest.mark.skipif(native.library() is None, reason=f"no compiler here: {native.reason}")
DTYPES = [torch.float32, torch.bfloat16]
ROUNDED = {torch.float32: 2e-6, torch.bfloat16: 5e-3}  # results rounded to the type
WINOGRAD = {torch.float32: 1e-5, torch.bfloat16: 2e-2}  # what is multiplied is rounded too
pytestmark = NEEDS


def pictures(*shape, dtype, last=True):
    x = torch.randn(*shape).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if last else x


def near(a, b, allowed):
    relative = compare(a.double(), b.double(), 0.0)[1]
    assert relative <= allowed, f"off by {relative:.1e}"


def off(a, b):
    """How far a is from b, all in all, relative."""
    return ((a.double() - b).norm() / b.norm()).item()


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
def test_pool_of_small_whole_numbers_is_max_pool2d_to_the_bit(c, o, h, w, dtype):
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


def test_nan_is_not_lost_in_a_convolution_or_its_pool():
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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
def test_conv2d_by_its_kernel(dtype, bias):
    torch.manual_seed(0)
    layer = Conv2d(5, 6, 3, padding=1, bias=bias, kernel="native")
    plain = Conv2d(5, 6, 3, padding=1, bias=bias)
    plain.params = {k: v.double() for k, v in layer.params.items()}
    x, dy = pictures(3, 5, 6, 7, dtype=dtype), pictures(3, 6, 6, 7, dtype=dtype)
    dx, grads = layer.backward(layer.forward(x)[1], dy)
    dx64, grads64 = plain.backward(plain.forward(x.double())[1], dy.double())
    near(dx, dx64, WINOGRAD[dtype])
    for name, g in grads64.items():
        near(grads[name], g, WINOGRAD[dtype])


@pytest.mark.parametrize("options", [dict(stride=2, padding=1), dict(), dict(padding=1, groups=2)])
def test_other_convolutions_are_the_librarys(options):
    torch.manual_seed(0)
    layer = Conv2d(4, 6, 3, kernel="native", **options)
    x = pictures(2, 4, 7, 7, dtype=torch.float32)
    y, saved = layer.forward(x)
    dy = torch.randn_like(y)
    dx, grads = layer.backward(saved, dy)
    layer.kernel = "torch"
    vendor_dx, vendor = layer.backward(saved, dy)
    assert torch.equal(dx, vendor_dx) and torch.equal(grads["weight"], vendor["weight"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("act", [None, ReLU, GELU])
@pytest.mark.parametrize("shape", [(3, 1, 5, 3), (5, 24, 3, 3), (2, 16, 4, 4), (40, 20, 31, 31)])
def test_norm_and_activation_are_those_of_autograd(shape, act, training, dtype):
    torch.manual_seed(0)
    norm = BatchNorm2d(shape[1], momentum=0.3)
    norm.params["weight"].uniform_(0.5, 1.5)
    norm.params["bias"].uniform_(-1, 1)
    norm.buffers["running_mean"].uniform_(-1, 1)
    stage = NormAct(norm, act()) if act else NormAct(norm)
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
    assert torch.equal(x, kept[0]) and torch.equal(dy, kept[1])


def test_moments_of_numbers_far_from_zero():
    torch.manual_seed(0)
    x = (torch.randn(64, 16, 9, 9) + 300).contiguous(memory_format=torch.channels_last)
    mean, var = native.moments(x)
    near(mean, x.double().mean((0, 2, 3)), 1e-6)
    near(var, x.double().var((0, 2, 3), correction=0), 1e-4)


def test_nan_and_infinity_pass_as_in_the_layers():
    x = torch.zeros(1, 16, 2, 2).contiguous(memory_format=torch.channels_last)
    x[0, 0, 0, 0], x[0, 1, 0, 0], x[0, 2, 0, 0] = torch.nan, torch.inf, -torch.inf
    one, nothing = torch.ones(16), torch.zeros(16)
    relu = native.act_forward(x, nothing, one, nothing, "relu")
    assert torch.equal(relu.isnan(), F.relu(x).isnan())
    assert native.act_forward(x, nothing, one, nothing, "gelu").isnan()[0, 0, 0, 0]
    assert native.moments(x)[1].isnan()[:3].all()


def small_net(act=GELU):
    def conv(a, b):
        return Conv2d(a, b, 3, padding=1, bias=False, kernel="native")

    return Sequential(
        Whiten2d(3), act(), conv(24, 32), MaxPool2d(2), BatchNorm2d(32), act(),
        Residual(Sequential(conv(32, 32), BatchNorm2d(32), act())),
        conv(32, 16), MaxPool2d(2), BatchNorm2d(16), GlobalMaxPool(), Linear(16, 10),
    )  # fmt: skip


def gradients(net, x, dz):
    net.input_grad = False
    z, saved = net.forward(x)
    dx, grads = net.backward(saved, dz.to(z.dtype))
    assert dx is None and saved == []
    return z, grads


@pytest.mark.parametrize("act", [GELU, ReLU])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_fused_net_is_no_further_from_float64_than_the_plain_one(dtype, act):
    torch.manual_seed(0)
    net = small_net(act)
    fast = fuse(net, CPU, dtype)
    kinds = [type(layer) for layer in fast.children.values()]
    assert kinds[:3] == [WhitenAct, ConvPool, NormAct] and type(fast) is Fused
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
    plain_z, plain = gradients(net, x, dz)
    for k, v in net.buffers.items():
        near(running[k], v, 1e-5 if dtype == torch.float32 else 2e-2)
    fresh()
    truth, wanted = gradients(small_net(act).to(torch.float64), x.double(), dz)  # shapes alone
    twin = small_net(act)
    for mine, theirs in ((twin.params, net.params), (twin.buffers, start)):
        for k, v in mine.items():
            v.copy_(theirs[k])
    truth, wanted = gradients(twin.to(torch.float64), x.double(), dz.double())
    assert grads.keys() == wanted.keys()

    for name, t in [("z", truth), *wanted.items()]:
        mine, theirs = (z, plain_z) if name == "z" else (grads[name], plain[name])
        assert off(mine, t) <= 1.5 * off(theirs, t) + 1e-6, name


def test_a_fused_net_in_evaluation_is_the_plain_one():
    torch.manual_seed(0)
    net = small_net()
    fast = fuse(net, CPU, torch.float32)
    x = pictures(6, 3, 16, 16, dtype=torch.float32)
    fast.forward(x)
    fast.eval()
    assert not any(layer.training for layer in net.leaves())
    near(fast.forward(x)[0], net.forward(x)[0], 1e-5)
    assert fast.train().training and all(layer.training for layer in net.leaves())


@pytest.mark.parametrize(
    "device, dtype", [("cuda", torch.float64), ("cpu", torch.float64), ("cpu", torch.float16)]
)
def test_what_the_kernels_do_not_serve_stays_as_it_is(device, dtype):
    net = small_net()
    assert fuse(net, torch.device(device), dtype) is net


def test_without_a_compiler_everything_still_works(monkeypatch):
    monkeypatch.setenv("CXX", "/no/such/compiler")
    native.library.cache_clear()
    try:
        net = small_net()
        assert native.library() is None and "compiler" in native.reason[-1]
        assert fuse(net, CPU, torch.float32) is net
        gradients(net, pictures(2, 3, 9, 9, dtype=torch.float32), torch.randn(2, 10))
    finally:
        native.library.cache_clear()


def test_the_library_is_compiled_once_into_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cpp, "FLAGS", ("-O1", *cpp.FLAGS[1:]))
    native.library.cache_clear()
    try:
        assert native.library() is not None
        (made,) = (tmp_path / "handwritten-backprop").iterdir()
        native.library.cache_clear()
        before = made.stat().st_mtime_ns
        assert native.library() is not None and made.stat().st_mtime_ns == before
    finally:
        native.library.cache_clear()


@pytest.mark.parametrize("without", ["-mno-amx-tile", "-mno-avx512bf16"])
def test_a_processor_that_can_less_gives_the_same(without, monkeypatch, tmp_path):
    """Its matrix unit, and its products of bfloat16, are ways to the same sums."""
    torch.manual_seed(0)
    x, dy = (pictures(5, k, 7, 6, dtype=torch.bfloat16) for k in (40, 70))
    weight, bias = torch.randn(70, 40, 3, 3), torch.randn(70)

    def results():
        y, winner = native.conv_pool(x, weight, bias)
        return [
            native.conv(x, weight, bias), y,
            native.conv_input_gradient(dy, weight), native.conv_weight_gradient(x, dy),
            native.conv_pool_weight_gradient(x, y, winner),
        ]  # fmt: skip

    here = results()
    monkeypatch.setattr(cpp, "FLAGS", ("-O1", *cpp.FLAGS[1:], without))  # less is faster compiled
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.library.cache_clear()
    try:
        if native.library() is None:
            pytest.skip(f"the compiler doesn't know {without}")
        for mine, other in zip(here, results()):
            assert off(mine, other.double()) < 5e-3
    finally:
        native.library.cache_clear()


def test_the_fused_step_compiles_whole():
    from nets.losses import CrossEntropyLoss
    from nets.optim.sgd import SGD
    from nets.training.step import train_step

    torch.manual_seed(0)
    x, y = pictures(4, 3, 9, 9, dtype=torch.float32), torch.tensor([1, 2, 3, 4])
    losses = []
    for compiled in (False, True):
        torch.manual_seed(1)
        net = fuse(small_net(), CPU, torch.float32)
        step = train_step(net, CrossEntropyLoss(), SGD(net.params, 0.1, 0.9))
        if compiled:
            step = torch.compile(step, fullgraph=True)
        losses.append([float(step(x, y, torch.ones(()))[0]) for _ in range(3)])
    assert losses[0][0] != losses[0][2]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
