"""Whole nets on native forms: as near to float64 as the plain ones, in evaluation, recomputed, compiled."""

import pytest
import torch

from nets.common.errors import SavedError
from nets.kernels import lower, native
from nets.kernels.native_forms import ConvPool, NativeConv2d, NormAct, WhitenAct
from nets.kernels.registry import Form
from nets.kernels.torch_forms import TorchConv2d
from nets.layers.activations import GELU, ReLU
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
from tests.kernels.common import DTYPES, near, off, pictures

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no compiler here: {native.reason}")


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


@pytest.mark.parametrize(
    "device, dtype", [("cuda", torch.float64), ("cpu", torch.float64), ("cpu", torch.float16)]
)
def test_other_devices_and_dtypes_get_no_native_form(device, dtype):
    """The library's forms take their place."""
    net = lower(small_net(), "native", torch.device(device), dtype)
    kinds = {type(leaf) for leaf in net.leaves()}
    assert not kinds & set(Form.FORMS["native"]) and TorchConv2d in kinds
