"""The kernels in Triton against the layers that they replace: on a GPU, or interpreted on a CPU."""

import os
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from nets.gradcheck import compare
from nets.kernels import lower, native
from nets.kernels.native_forms import NormAct, Pool, WhitenAct
from nets.layers.activations import GELU, ReLU
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import MaxPool2d
from nets.layers.whiten import Whiten2d
from tests.helpers import CUDA

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
HERE = "cpu" if INTERPRETED else "cuda"
KERNELS = pytest.mark.skipif(
    not (INTERPRETED or torch.cuda.is_available()),
    reason="needs a CUDA device; interpreted, in a process of its own",
)
DTYPES = [torch.float32, torch.bfloat16, *([] if INTERPRETED else [torch.float16])]
ROUNDED = {torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}
ACTS = {None: lambda v: v, ReLU: F.relu, GELU: F.gelu}


@pytest.fixture
def gpu(monkeypatch):
    """The kernels, for the forms that use them."""
    kernels = pytest.importorskip("nets.kernels.native.gpu")
    if INTERPRETED:
        for name in ("moments", "act_forward", "bias_act_backward", "norm_act_backward", "pool", "unpool"):
            monkeypatch.setattr(native, name, getattr(kernels, name))
        monkeypatch.setattr(kernels, "SHARES", 3)  # so that each has several rounds
    else:
        assert native.available(torch.device("cuda"), torch.float32)
    return kernels


def pictures(*shape, dtype, last=True):
    x = torch.randn(*shape, device=HERE).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if last else x


def near(a, b, allowed):
    relative = compare(a.double(), b.double(), 0.0)[1]
    assert relative <= allowed, f"off by {relative:.1e}"


ELSEWHERE = pytest.mark.skipif(
    INTERPRETED or torch.cuda.is_available(), reason="here they run on a GPU, or this is that run"
)


def interpreted(*options):
    """This file's tests on the CPU, in a process of their own."""
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, *options]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr


@ELSEWHERE
def test_one_case_of_each_kernel_passes_in_tritons_interpreter():
    """The norm's with one activation and dtype; the others whole."""
    interpreted("-k", "moments or nan or whitening or pool or (norm and shape0-dtype1 and GELU)")


@ELSEWHERE
@pytest.mark.deep
def test_all_cases_pass_in_tritons_interpreter():
    interpreted()


@KERNELS
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 24, 7, 9), (12, 100, 3, 2)])
def test_a_norm_and_its_activation_agree_with_autograd(shape, dtype, act, training, gpu):
    torch.manual_seed(0)
    norm = BatchNorm2d(shape[1], momentum=0.3).train(training).to(HERE)
    for t in (*norm.params.values(), *norm.buffers.values()):
        t.uniform_(0.5, 2)
    stage = NormAct(norm, *([act()] if act else []))
    x, dy = pictures(*shape, dtype=dtype) * 2 + 3, pictures(*shape, dtype=dtype)
    x64, *params = (t.double().requires_grad_() for t in (x, *norm.params.values()))
    mean, var = (b.double() for b in norm.buffers.values())
    y64 = ACTS[act](F.batch_norm(x64, mean, var, *params, training, 0.3, norm.eps))
    wanted = torch.autograd.grad(y64, [x64, *params], dy.double())
    kept = x.clone(), dy.clone()
    y, saved = stage.forward(x)
    dx, grads = stage.backward(saved, dy)
    assert y.dtype == dx.dtype == dtype and list(grads) == list(norm.params)
    assert y.stride() == dx.stride() == x.stride()
    near(y, y64.detach(), ROUNDED[dtype])
    near(dx, wanted[0], 5 * ROUNDED[dtype])
    near(grads["weight"], wanted[1], 1e-5)
    near(grads["bias"], wanted[2], 1e-5)
    near(norm.buffers["running_mean"], mean, 1e-5)
    near(norm.buffers["running_var"], var, 1e-5)
    assert torch.equal(stage.output(saved), y)
    assert torch.equal(stage.backward(saved, dy)[0], dx)
    assert torch.equal(x, kept[0]) and torch.equal(dy, kept[1])


@KERNELS
@pytest.mark.parametrize("act", [ReLU, GELU])
@pytest.mark.parametrize("last", [True, False])
def test_whitening_and_its_activation_agree_with_autograd(last, act, gpu):
    torch.manual_seed(0)
    whiten = Whiten2d(3)
    whiten.params["bias"].normal_()
    stage = WhitenAct(whiten.to(HERE), act())
    x = pictures(6, 3, 9, 7, dtype=torch.float32, last=last)
    x64, b64 = x.double().requires_grad_(), whiten.params["bias"].double().requires_grad_()
    y64 = ACTS[act](F.conv2d(x64, whiten.buffers["weight"].double(), b64))
    dy = pictures(*y64.shape, dtype=torch.float32, last=last)
    dx64, db64 = torch.autograd.grad(y64, [x64, b64], dy.double())
    y, saved = stage.forward(x)
    dx, grads = stage.backward(saved, dy)
    near(y, y64.detach(), 1e-5)
    near(dx, dx64, 1e-5)
    near(grads["bias"], db64, 1e-5)
    dx, again = stage.backward(saved, dy, input_grad=False)
    assert dx is None and torch.equal(again["bias"], grads["bias"])


@KERNELS
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (3, 24, 5, 4), (2, 64, 7, 31), (2, 600, 3, 9)])
def test_a_pool_is_bit_identical_to_max_pool2d(shape, dtype, gpu):
    """With ties, of which the first wins, and NaN, which wins over all."""
    torch.manual_seed(0)
    x = torch.randint(-2, 3, shape, device=HERE).to(dtype).contiguous(memory_format=torch.channels_last)
    x[0, 0, 1, 1] = torch.nan
    layer = MaxPool2d(2)
    stage = Pool(layer)
    y, saved = stage.forward(x)
    dy = pictures(*y.shape, dtype=dtype)
    theirs, their_saved = layer.forward(x)
    assert torch.equal(y.nan_to_num(9), theirs.nan_to_num(9)) and y.isnan().sum() == 1
    dx = stage.backward(saved, dy)[0]
    assert torch.equal(dx, layer.backward(their_saved, dy)[0]) and dx.is_contiguous(
        memory_format=torch.channels_last
    )
    winner, _ = saved
    assert winner.dtype == torch.uint8


@KERNELS
def test_moments_of_numbers_far_from_zero(gpu):
    torch.manual_seed(0)
    x = pictures(8, 16, 9, 9, dtype=torch.float32) + 300
    mean, var = gpu.moments(x)
    near(mean, x.double().mean((0, 2, 3)), 1e-6)
    near(var, x.double().var((0, 2, 3), correction=0), 1e-4)


@KERNELS
def test_nan_and_infinity_pass_as_in_the_layers(gpu):
    x = torch.zeros(1, 16, 2, 2, device=HERE).contiguous(memory_format=torch.channels_last)
    x[0, 0, 0, 0], x[0, 1, 0, 0], x[0, 2, 0, 0] = torch.nan, torch.inf, -torch.inf
    one, nothing = torch.ones(16, device=HERE), torch.zeros(16, device=HERE)
    relu = gpu.act_forward(x, nothing, one, nothing, "relu")
    assert torch.equal(relu.isnan(), F.relu(x).isnan())
    assert gpu.act_forward(x, nothing, one, nothing, "gelu").isnan()[0, 0, 0, 0]
    assert gpu.moments(x)[1].isnan()[:3].all()


@CUDA
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_native_net_is_no_further_from_float64_than_the_plain_one(dtype):
    from tests.kernels.common import off
    from tests.kernels.test_native_forms import gradients, small_net

    torch.manual_seed(0)
    net = small_net(GELU).to("cuda")
    fast = lower(net, "native", torch.device("cuda"), dtype)
    assert [type(layer) for layer in fast.children.values()][1:4] == [type(net.children["2"]), Pool, NormAct]
    x, dz = pictures(40, 3, 17, 18, dtype=dtype), torch.randn(40, 10, device="cuda")
    start = {k: v.clone() for k, v in net.buffers.items()}

    def run(which, x):
        for k, v in net.buffers.items():
            v.copy_(start[k])
        z, grads = gradients(which, x, dz)
        return {"z": z} | grads

    mine, plain = run(fast, x), run(net, x)
    truth = run(net.to(dtype=torch.float64), x.double())
    for name, t in truth.items():
        assert off(mine[name], t) <= 1.5 * off(plain[name], t) + 1e-6, name
