"""Every layer against torch.nn.functional, forward and backward."""

import pytest
import torch
from torch.nn import functional as F

from nets.common.errors import BatchError
from nets.gradcheck import compare
from nets.gradcheck import reference as twin
from nets.layers.activations import GELU, ReLU, Scale, Sigmoid, SiLU, Tanh
from nets.layers.adaptive_pool import AdaptiveAvgPool2d
from nets.layers.conv import Conv2d
from nets.layers.dropout import Dropout
from nets.layers.linear import Flatten, Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import AvgPool2d, GlobalAvgPool, GlobalMaxPool, MaxPool2d
from nets.layers.response_norm import LocalResponseNorm
from nets.layers.whiten import Whiten2d
from tests.helpers import DEVICES, check_layer


def special(*shape):
    """Random numbers with zeros, ones and large values among them."""
    x = torch.randn(*shape, dtype=torch.float64)
    flat = x.view(-1)
    for i, value in enumerate((0.0, -0.0, 1.0, -1.0, 30.0, -30.0, 1e-300)):
        flat[i :: len(flat) // 3 + 7] = value
    return x


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5, 7), (1, 1), (0, 3)])
@pytest.mark.parametrize(
    "layer, function",
    [
        (Sigmoid, F.sigmoid),
        (Tanh, F.tanh),
        (ReLU, F.relu),
        (GELU, F.gelu),
        (lambda: GELU("tanh"), lambda x: F.gelu(x, approximate="tanh")),
        (SiLU, F.silu),
        (lambda: GELU(kernel="torch"), F.gelu),
        (lambda: GELU("tanh", kernel="torch"), lambda x: F.gelu(x, approximate="tanh")),
        (lambda: SiLU(kernel="torch"), F.silu),
    ],
)
def test_activation(layer, function, shape, device):
    x = special(*shape) if 0 not in shape else torch.zeros(shape)
    check_layer(layer(), lambda x, p, b, t: function(x), x, device)


@pytest.mark.parametrize("layer", [Sigmoid(), Tanh(), ReLU(), GELU(), GELU("tanh"), SiLU()])
def test_activation_of_one_number(layer):
    x = torch.tensor(0.7, dtype=torch.float64)
    (y, saved), (ys, saveds) = layer.forward(x), layer.forward(x[None])
    assert torch.equal(y, ys[0])
    assert torch.equal(layer.backward(saved, x)[0], layer.backward(saveds, x[None])[0][0])


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_is_exact_or_by_tanh(approximate):
    x = torch.randn(50, dtype=torch.float64)
    y, _ = GELU(approximate).forward(x)
    assert torch.equal(y, twin.run(GELU(approximate), x, None))
    assert torch.equal(y, F.gelu(x)) == (approximate == "none")


def test_gelu_is_not_by_something_else():
    with pytest.raises(ValueError, match='approximate is "none" or "tanh", not "erf"'):
        GELU("erf")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4, 7), (1, 7), (2, 3, 7), (0, 7)])
def test_linear(shape, bias, device):
    layer = Linear(7, 5, bias=bias)
    check_layer(layer, lambda x, p, b, t: F.linear(x, p["weight"], p.get("bias")), torch.randn(shape), device)


def test_scale():
    check_layer(Scale(0.3), lambda x, p, b, t: 0.3 * x, torch.randn(3, 5))


@pytest.mark.parametrize("make", [lambda: Linear(100, 400), lambda: Conv2d(8, 400, (5, 5), groups=2)])
def test_start_values_fill_plus_and_minus_one_over_the_root_of_the_inputs(make):
    layer = make()
    for w in layer.params.values():
        assert -0.1 <= w.min() < -0.097 and 0.097 < w.max() <= 0.1
    assert abs(layer.params["weight"].mean()) < 1e-3


@pytest.mark.parametrize("make", [lambda **o: Linear(100, 400, **o), lambda **o: Conv2d(4, 400, 5, **o)])
def test_start_values_of_a_gaussian_and_a_constant(make):
    w, b = make(std=0.02, bias_start=0.7).params.values()
    assert abs(w.std() - 0.02) < 1e-3 and abs(w.mean()) < 1e-3 and w.abs().max() > 0.06
    assert torch.equal(b, torch.full((400,), 0.7))
    w, b = make(bias_start=0.0).params.values()
    assert 0.097 < w.abs().max() <= 0.1 and not b.any()
    w, b = make(std=3.0).params.values()
    assert abs(w.std() - 3) < 0.1 and 0.09 < b.abs().max() <= 0.1


def test_linear_start_values_of_a_given_spread():
    assert Linear(100, 400, spread=2.0).params["bias"].abs().max() > 1.9


@pytest.mark.parametrize("device", DEVICES)
def test_flatten(device):
    check_layer(Flatten(), lambda x, p, b, t: x.reshape(len(x), -1), torch.randn(3, 2, 5, 4), device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("p", [0.0, 0.3, 0.9, 1.0])
def test_dropout(p, device):
    def reference(x, params, buffers, training):
        if not training:
            return x * 1
        if p == 1:
            return x * 0
        return torch.where(torch.rand_like(x, dtype=torch.float32) >= p, x / (1 - p), 0)

    check_layer(Dropout(p), reference, torch.randn(50, 20), device, draws=True)


def test_dropout_drops_its_share_and_keeps_the_mean():
    y, _ = Dropout(0.3).forward(torch.ones(100_000))
    assert abs((y == 0).double().mean() - 0.3) < 0.01
    assert abs(y.mean() - 1) < 0.01
    assert Dropout().p == 0.5
    for p in (1.5, -0.5):
        with pytest.raises(ValueError, match="probability"):
            Dropout(p)


def test_a_draw_of_exactly_p_is_kept(monkeypatch):
    """So that p = 0, where 0 may be drawn, drops nothing."""
    monkeypatch.setattr(torch, "rand_like", torch.zeros_like)
    assert torch.equal(Dropout(0.0).forward(torch.ones(3))[0], torch.ones(3))


CONVS = [  # (x shape, options)
    ((2, 3, 8, 8), dict(kernel_size=3, padding=1)),
    ((2, 3, 9, 7), dict(kernel_size=3)),
    ((1, 1, 5, 5), dict(kernel_size=1)),
    ((2, 3, 9, 8), dict(kernel_size=2, stride=2)),
    ((2, 3, 10, 11), dict(kernel_size=3, stride=2)),  # left-over rows and columns
    ((2, 3, 11, 10), dict(kernel_size=3, stride=3, padding=1)),
    ((2, 3, 13, 9), dict(kernel_size=3, stride=2, padding=2, dilation=2)),
    ((2, 3, 9, 10), dict(kernel_size=(1, 3), stride=(1, 2), padding=(0, 2))),
    ((2, 3, 9, 10), dict(kernel_size=(3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 3))),
    ((2, 4, 7, 9), dict(kernel_size=3, padding=1, groups=2)),
    ((2, 4, 8, 9), dict(kernel_size=3, stride=2, padding=1, groups=4)),  # depthwise
    ((2, 3, 9, 9), dict(kernel_size=5, padding=4, stride=4, bias=False)),
    ((0, 3, 6, 6), dict(kernel_size=3)),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kernel", ["reference", "torch"])
@pytest.mark.parametrize("shape, options", CONVS)
def test_conv2d(shape, options, kernel, device):
    layer = Conv2d(shape[1], 8, kernel=kernel, **options)
    rest = {k: v for k, v in options.items() if k in ("stride", "padding", "dilation", "groups")}
    check_layer(
        layer,
        lambda x, p, b, t: F.conv2d(x, p["weight"], p.get("bias"), **rest),
        torch.randn(shape),
        device,
        modes=(True,),
    )


@pytest.mark.parametrize("groups", [1, 3])
def test_conv2d_weight_gradient_in_blocks(groups):
    """More pictures than one block of patches holds give the same sum."""
    layer = Conv2d(3, 6, 3, padding=1, groups=groups).to(torch.float64)
    x = torch.randn(80, 3, 60, 60, dtype=torch.float64)
    assert 2**22 < 80 * 60**2 * 27 < 2 * 2**22  # numbers in its patches: two blocks
    y, saved = layer.forward(x)
    dy = torch.randn_like(y)
    whole = layer.backward(saved, dy)[1]["weight"]
    parts = sum(layer.backward(x[i : i + 8], dy[i : i + 8])[1]["weight"] for i in range(0, 80, 8))
    assert compare(whole, parts)[1] < 1e-12


def test_no_gradient_for_the_data_where_it_is_not_wanted():
    pictures, rows = torch.randn(2, 3, 5, 5), torch.randn(2, 3)
    convs = [Conv2d(3, 4, 3), Conv2d(3, 4, 3, kernel="torch"), Whiten2d(3)]
    for layer, x in [*((layer, pictures) for layer in convs), (Linear(3, 4), rows)]:
        y, saved = layer.forward(x)
        full = layer.backward(saved, torch.ones_like(y))
        layer.input_grad = False
        dx, grads = layer.backward(saved, torch.ones_like(y))
        assert dx is None and full[0].shape == x.shape
        assert all(torch.equal(grads[k], full[1][k]) for k in grads)


@pytest.mark.parametrize("groups", [1, 2])
def test_dirac_starts_pass_the_input_through(groups):
    layer, x = Conv2d(4, 12, 3, padding=1, bias=False, dirac=True, groups=groups), torch.randn(2, 4, 5, 6)
    y, _ = layer.forward(x)
    copies = torch.cat([block[:, : 4 // groups] for block in y.chunk(groups, 1)], 1)
    torch.testing.assert_close(copies, x)
    assert not torch.equal(
        y[:, 4 // groups : 12 // groups], torch.zeros_like(y[:, 4 // groups : 12 // groups])
    )


def test_dirac_is_1_in_the_middle():
    w = Conv2d(2, 3, (5, 7), dirac=True).params["weight"]
    want = torch.zeros(2, 2, 5, 7)
    want[0, 0, 2, 3] = want[1, 1, 2, 3] = 1
    assert torch.equal(w[:2], want) and w[2].count_nonzero() == 70


@pytest.mark.parametrize("groups", [2, 0])
def test_groups_must_divide_channels(groups):
    with pytest.raises(ValueError, match=f"{groups} groups"):
        Conv2d(3, 4, 3, groups=groups)


@pytest.mark.parametrize("wrong", [-1, 1.5, (1,), (1, 1, 1), (1, -1), "1"])
@pytest.mark.parametrize("name", ["kernel_size", "stride", "padding", "dilation"])
def test_windows_are_described_by_whole_numbers(name, wrong):
    options = dict(kernel_size=3) | {name: wrong}
    least = 0 if name == "padding" else 1
    with pytest.raises(ValueError, match=f"^{name} must be a whole number of at least {least}, or two"):
        Conv2d(3, 4, **options)
    if least == 1:
        with pytest.raises(ValueError, match=f"^{name} must be"):
            Conv2d(3, 4, **dict(kernel_size=3) | {name: 0})


POOLS = [  # (x shape, options)
    ((2, 3, 8, 8), dict(kernel_size=2)),
    ((2, 3, 9, 7), dict(kernel_size=2)),
    ((2, 3, 9, 10), dict(kernel_size=3, stride=2)),  # overlapping, as AlexNet's
    ((2, 3, 9, 10), dict(kernel_size=3, stride=2, padding=1)),
    ((2, 3, 7, 7), dict(kernel_size=3, stride=1, padding=1)),
    ((1, 2, 9, 8), dict(kernel_size=(2, 3), stride=(1, 2), padding=(1, 0))),
    ((1, 2, 9, 8), dict(kernel_size=2, stride=3)),
    ((1, 2, 2, 2), dict(kernel_size=5, stride=1, padding=2)),  # wider than the picture
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("kernel", ["reference", "torch"])
@pytest.mark.parametrize(
    "shape, options",
    [
        *POOLS,
        ((1, 2, 11, 9), dict(kernel_size=3, stride=2, padding=1, dilation=2)),
        ((1, 2, 8, 9), dict(kernel_size=(2, 3), stride=1, dilation=(3, 1))),
    ],
)
def test_max_pool(shape, options, kernel, ties, device):
    x = torch.randint(0, 3, shape).double() if ties else torch.randn(shape)
    check_layer(MaxPool2d(kernel=kernel, **options), lambda x, p, b, t: F.max_pool2d(x, **options), x, device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape, options", POOLS)
def test_avg_pool(shape, options, device):
    # contiguous: on CUDA the library's backward of padded windows in channels_last is wrong (torch 2.11)
    reference = lambda x, p, b, t: F.avg_pool2d(x.contiguous(), **options)  # noqa: E731
    check_layer(AvgPool2d(**options), reference, torch.randn(shape), device)


@pytest.mark.parametrize("kernel", ["reference", "torch"])
@pytest.mark.parametrize("stride", [2, 1])
def test_max_pool_of_nan_and_minus_infinity(kernel, stride):
    """NaN wins and takes the gradient; of a window of −inf the first is the winner."""
    nan, inf = float("nan"), float("inf")
    x = torch.tensor([[1.0, nan, -inf, -inf], [3.0, 2.0, -inf, -inf]])[None, None].double()
    layer = MaxPool2d(2, stride, kernel=kernel)
    y, saved = layer.forward(x)
    dx, _ = layer.backward(saved, torch.ones_like(y))
    leaf = x.clone().requires_grad_()
    F.max_pool2d(leaf, 2, stride).sum().backward()
    assert y[0, 0, 0, 0].isnan() and y[0, 0, 0, -1] == -inf
    assert dx[0, 0, 0, 1] == leaf.grad[0, 0, 0, 1] > 0
    assert torch.equal(dx, leaf.grad)


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
    y, saved = layer.forward(x)
    assert saved[0].dtype == dtype
    assert torch.equal(layer.backward(saved, x)[0], x)


@pytest.mark.parametrize("layer", [MaxPool2d(2), MaxPool2d(2, 1), ReLU()])
def test_an_infinite_gradient_reaches_only_its_winner(layer):
    x = torch.randn(1, 1, 5, 5, dtype=torch.float64)
    y, saved = layer.forward(x)
    dy = torch.ones_like(y)
    dy[y == y.max()] = float("inf")
    dx, _ = layer.backward(saved, dy)
    assert not dx.isnan().any() and (dx == float("inf")).sum() == 1


@pytest.mark.parametrize("layer", [AvgPool2d(3, 1, 1), MaxPool2d(3, 1, 1)])
def test_a_padded_pool_keeps_channels_last_again_and_again(layer):
    """What it gives is cropped, and so has gaps: the next one must see through them."""
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    y, saved = layer.forward(x)
    once, _ = layer.backward(saved, x)
    twice, _ = layer.backward(saved, once)
    assert y.stride(1) == once.stride(1) == twice.stride(1) == 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (2, 3, 4, 5), (1, 2, 1, 1)])
def test_global_pools(shape, device):
    tied = torch.randint(0, 3, shape).double()
    check_layer(GlobalAvgPool(), lambda x, p, b, t: x.mean((2, 3)), torch.randn(shape), device)
    for x in (torch.randn(shape), tied):
        check_layer(GlobalMaxPool(), lambda x, p, b, t: F.max_pool2d(x, x.shape[2:]).flatten(1), x, device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "shape, size",
    [
        ((2, 3, 7, 8), 3),  # windows that overlap, and of several sizes
        ((2, 3, 13, 9), (6, 4)),
        ((2, 3, 8, 6), (4, 6)),  # side by side; places as they are
        ((2, 3, 7, 8), 1),  # the whole picture
        ((1, 2, 3, 2), (7, 5)),  # more windows than places
        ((0, 3, 5, 5), 2),
    ],
)
def test_adaptive_avg_pool(shape, size, device):
    layer, x = AdaptiveAvgPool2d(size), torch.randn(shape)
    check_layer(layer, lambda x, p, b, t: F.adaptive_avg_pool2d(x, size), x, device)


def test_adaptive_avg_pool_of_an_infinite_gradient():
    """It reaches its own window only."""
    layer = AdaptiveAvgPool2d(2)
    y, saved = layer.forward(torch.randn(1, 1, 4, 4))
    dy = torch.tensor([[float("inf"), 1.0], [2.0, 3.0]])[None, None]
    dx, _ = layer.backward(saved, dy)
    assert torch.equal(dx[0, 0], dy[0, 0].repeat_interleave(2, 0).repeat_interleave(2, 1) / 4)


def test_adaptive_avg_pool_takes_no_pictures_without_pixels_and_no_sizes_of_nothing():
    with pytest.raises(BatchError, match="without pixels"):
        AdaptiveAvgPool2d(2).forward(torch.randn(2, 3, 0, 4))
    for size in (0, (3, 0), 1.5, None):
        with pytest.raises(ValueError, match="output_size must be a whole number of at least 1, or two"):
            AdaptiveAvgPool2d(size)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kernel", ["reference", "torch"])
@pytest.mark.parametrize("shape", [(4, 3, 5, 7), (2, 1, 1, 1), (1, 3, 2, 2)])
def test_batch_norm(shape, kernel, affine, device):
    layer = BatchNorm2d(shape[1], eps=1e-3, momentum=0.3, affine=affine, kernel=kernel)
    for t in (*layer.params.values(), *layer.buffers.values()):
        t.copy_(torch.rand_like(t) + 0.5)

    def reference(x, p, b, training):
        return F.batch_norm(
            x, b["running_mean"], b["running_var"], p.get("weight"), p.get("bias"), training, 0.3, 1e-3
        )

    check_layer(layer, reference, torch.randn(shape) * 3 + 5, device)


def test_batch_norm_stores_the_unbiased_variance():
    layer, x = BatchNorm2d(1, momentum=1.0), torch.tensor([1.0, 2.0, 3.0, 6.0]).view(4, 1, 1, 1)
    layer.forward(x)
    assert layer.buffers["running_mean"].item() == 3.0
    assert layer.buffers["running_var"].item() == pytest.approx(14 / 3)


def test_batch_norm_needs_more_than_one_value():
    layer = BatchNorm2d(3)
    with pytest.raises(ValueError, match="more than one value a channel"):
        layer.forward(torch.randn(1, 3, 1, 1))
    layer.eval().forward(torch.randn(1, 3, 1, 1))
    for shape in [(2, 3, 1, 1), (1, 3, 2, 1), (1, 3, 1, 2)]:  # two values are enough
        layer.train().forward(torch.randn(shape))


@pytest.mark.parametrize("wrong", [dict(eps=0), dict(eps=-1e-5), dict(momentum=-0.1), dict(momentum=1.1)])
def test_batch_norm_takes_no_wrong_options(wrong):
    with pytest.raises(ValueError, match="eps must be over 0 and momentum 0 to 1"):
        BatchNorm2d(3, **wrong)
    BatchNorm2d(3, eps=1e-9, momentum=0)  # the average stays as it is


@pytest.mark.parametrize("kernel", ["reference", "torch"])
def test_batch_norm_of_no_pictures(kernel):
    """In evaluation nothing is divided by their number; the library's backward died of it."""
    layer = BatchNorm2d(3, kernel=kernel).eval()
    y, saved = layer.forward(torch.randn(0, 3, 2, 2))
    dx, grads = layer.backward(saved, y)
    assert dx.shape == y.shape == (0, 3, 2, 2)
    assert all(torch.equal(g, torch.zeros(3)) for g in grads.values())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("shape", [(2, 7, 4, 5), (2, 3, 4, 5), (2, 4, 6), (1, 5, 2, 2, 3), (0, 3, 4, 4)])
def test_local_response_norm(shape, size, device):
    """Windows narrower and wider than the channels, odd and even."""
    layer = LocalResponseNorm(size, alpha=0.7, beta=0.6, k=1.3)

    def reference(x, p, b, t):
        return F.local_response_norm(x, size, 0.7, 0.6, 1.3)

    check_layer(layer, reference, torch.randn(shape) * 2, device, modes=(True,))


def test_local_response_norm_has_torchs_defaults_and_divides_alpha():
    x = 100 * torch.randn(2, 6, 3, 3, dtype=torch.float64)
    y, saved = LocalResponseNorm(5).forward(x)
    torch.testing.assert_close(y, F.local_response_norm(x, 5), rtol=1e-12, atol=0)
    assert saved is x
    # the paper's own form, where alpha isn't divided
    near = F.pad(x**2, (0, 0, 0, 0, 2, 2)).unfold(1, 5, 1).sum(-1)
    paper = x / (2 + 1e-4 * near) ** 0.75
    torch.testing.assert_close(LocalResponseNorm(5, 5e-4, 0.75, 2.0).forward(x)[0], paper, rtol=1e-12, atol=0)


def test_local_response_norm_in_bfloat16_is_rounded_once():
    x = torch.randn(2, 6, 9, 9).bfloat16()
    y = LocalResponseNorm(5, 0.5).forward(x)[0]
    truth = LocalResponseNorm(5, 0.5).forward(x.double())[0]
    assert y.dtype == torch.bfloat16 and (y != truth.bfloat16()).double().mean() < 0.01


def test_local_response_norm_in_blocks_of_pictures():
    """More pictures than a block holds give the same."""
    layer, x = LocalResponseNorm(3, 0.5), torch.randn(5, 4, 300, 300)
    assert x.numel() > 2 * 2**19 > x[0].numel()
    y, saved = layer.forward(x)
    dx, _ = layer.backward(saved, y)
    for i in range(5):
        yi, si = layer.forward(x[i : i + 1])
        assert torch.equal(yi, y[i : i + 1]) and torch.equal(layer.backward(si, yi)[0], dx[i : i + 1])


@pytest.mark.parametrize("wrong", [dict(size=0), dict(size=1.5), dict(size=3, alpha=-1e-4), dict(size=3, beta=-0.1),
                                   dict(size=3, k=-1.0)])  # fmt: skip
def test_local_response_norm_takes_no_wrong_options(wrong):
    with pytest.raises(ValueError, match="must be (a whole number of at least 1|at least 0), not"):
        LocalResponseNorm(**wrong)
    with pytest.raises(BatchError, match=r"LocalResponseNorm takes \(N, C, …\) with places, not \(2, 3\)"):
        LocalResponseNorm(1, 0, 0, 0).forward(torch.randn(2, 3))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "layer, shape",
    [
        (lambda: Linear(6, 5), (4, 6)),
        (lambda: Conv2d(3, 4, 3, stride=2, padding=1), (2, 3, 8, 7)),
        (lambda: BatchNorm2d(3), (4, 3, 5, 5)),
        (lambda: MaxPool2d(3, 2), (2, 3, 7, 7)),
        (lambda: MaxPool2d(2), (2, 3, 7, 7)),
        (lambda: AvgPool2d(2), (2, 3, 7, 7)),
        (lambda: AdaptiveAvgPool2d(3), (2, 3, 7, 7)),
        (lambda: GELU("tanh"), (2, 3, 4, 4)),
        (lambda: LocalResponseNorm(3, 0.5), (2, 4, 5, 5)),
        *((a, (2, 3, 4, 4)) for a in (Sigmoid, Tanh, ReLU, GELU, SiLU, GlobalAvgPool, GlobalMaxPool)),
    ],
)
def test_low_precision_keeps_the_dtype_and_comes_near_float64(layer, shape, dtype, device):
    """Numbers in dtype, weights and their gradients in float32, near the float64 result."""
    layer, x = layer().to(device), torch.randn(shape, device=device)
    if len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    y, saved = layer.forward(x.to(dtype))
    dy = torch.randn(y.shape, device=device)
    dx, grads = layer.backward(saved, dy.to(dtype))
    assert y.dtype == dx.dtype == dtype
    assert all(g.dtype == torch.float32 for g in grads.values())
    wide = layer.to(torch.float64)
    y64, saved64 = wide.forward(x.to(dtype).double())
    dx64, grads64 = wide.backward(saved64, dy.to(dtype).double())
    limit = 2e-5 if dtype == torch.float32 else 2e-2
    for a, b in [(y, y64), (dx, dx64), *((grads[k], grads64[k]) for k in grads)]:
        assert compare(a, b)[1] < limit


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kernel_size", [2, 3, (1, 2), (3, 1)])
def test_whiten(kernel_size, device):
    layer = Whiten2d(3, kernel_size)
    layer.params["bias"].normal_()
    x = torch.randn(20, 3, 9, 8) + 2 * torch.randn(20, 3, 1, 1)
    layer.fit(x)
    check_layer(layer, lambda x, p, b, t: F.conv2d(x, b["weight"], p["bias"]), x[:3], device, modes=(True,))


def test_whitened_patches_are_uncorrelated():
    layer, x = Whiten2d(3, eps=1e-6).to(torch.float64), torch.randn(20, 3, 10, 10).cumsum(2).cumsum(1)
    assert layer.forward(x.double())[0].shape == (20, 24, 9, 9)
    layer.fit(x)
    y = layer.forward(x.double())[0].transpose(0, 1).flatten(1)
    torch.testing.assert_close(y[:12], -y[12:])
    torch.testing.assert_close(torch.cov(y[:12]), torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-3)


def test_whitening_damps_directions_whose_variance_is_small_against_eps():
    """Filters v / √(λ + ε) leave a variance of λ / (λ + ε); pictures may come in bfloat16."""
    layer, x = Whiten2d(1, 2, eps=0.5), torch.randn(1000, 1, 2, 2)
    x[..., 0] *= 0.1
    layer.fit(x.bfloat16())
    variances = layer.forward(x)[0][:, :4].var(0).flatten()
    want = torch.tensor([1 / 1.5, 1 / 1.5, 0.01 / 0.51, 0.01 / 0.51])
    torch.testing.assert_close(variances, want, rtol=0.1, atol=0)
    assert Whiten2d(1).eps == 5e-4
    for eps in (0, -0.1):
        with pytest.raises(ValueError, match="eps must be over 0"):
            Whiten2d(1, eps=eps)


def test_whiten_starts_with_the_patches_as_they_are():
    x = torch.randn(2, 3, 4, 5)
    y = Whiten2d(3, (1, 2)).forward(x)[0]
    patches = F.unfold(x, (1, 2)).reshape(2, 6, 4, 4)
    assert torch.equal(y, torch.cat([patches, -patches], 1))


SEE_PICTURES = [
    *(Conv2d(3, 4, 2), Whiten2d(3), MaxPool2d(2), AvgPool2d(2)),
    *(BatchNorm2d(3), GlobalAvgPool(), GlobalMaxPool(), AdaptiveAvgPool2d(2)),
]


@pytest.mark.parametrize("shape", [(3, 6, 6), (3, 6), (2, 3, 1, 6, 6)])
@pytest.mark.parametrize("layer", SEE_PICTURES, ids=lambda layer: type(layer).__name__)
def test_only_pictures_are_taken(layer, shape):
    name = type(layer).__name__
    with pytest.raises(BatchError, match=rf"{name} takes pictures \(N, C, H, W\), not \(.*6\)"):
        layer.forward(torch.randn(shape))
    if isinstance(layer, Whiten2d):
        with pytest.raises(BatchError, match=name):
            layer.fit(torch.randn(shape))


@pytest.mark.parametrize(
    "layer",
    [
        Conv2d(3, 4, 3, dilation=2, padding=(1, 2)),
        MaxPool2d(3, dilation=2, padding=(1, 0)),
        AvgPool2d((5, 3), padding=(1, 0)),
    ],
)
def test_a_window_that_does_not_fit(layer):
    x = torch.randn(2, 3, 2, 9)
    padded = f"4 × {9 + 2 * layer.windows.padding[1]}"
    with pytest.raises(BatchError, match=f"window of 5 × [35] is larger than the picture, {padded}$"):
        layer.forward(x)
    assert layer.forward(torch.randn(2, 3, 3, 9))[0].shape[2] == 1  # this one just fits


@pytest.mark.parametrize("turned", [False, True])
def test_a_padded_max_pool_dilated_by_more_than_the_picture(turned):
    """A window could lie in the padding alone, on both sides of the picture."""
    both = (lambda a, b: (b, a)) if turned else (lambda a, b: (a, b))
    layer = MaxPool2d(both(2, 1), dilation=both(3, 1), padding=both(1, 0))
    with pytest.raises(BatchError, match="dilation .* is larger than the picture"):
        layer.forward(torch.randn(1, 1, *both(2, 5)))
    assert layer.forward(torch.randn(1, 1, *both(3, 5)))[0].shape[2:] == both(1, 5)
    assert MaxPool2d(1, dilation=5).forward(torch.randn(1, 1, 3, 3))[0].shape[2:] == (3, 3)


@pytest.mark.parametrize(
    "layer, options",
    [
        (MaxPool2d, dict(padding=2)),
        (MaxPool2d, dict(padding=2, dilation=2)),
        (AvgPool2d, dict(padding=(0, 2))),
    ],
)
def test_a_pool_is_padded_by_at_most_half_a_window(layer, options):
    with pytest.raises(ValueError, match="padding must be at most half a window, not"):
        layer(3, **options)


@pytest.mark.parametrize("kernel", ["reference", "torch"])
def test_a_max_pool_window_that_steps_over_the_picture(kernel):
    """Left and right of it, it sees padding alone; the library's index then lies outside the picture."""
    layer = MaxPool2d((1, 2), (1, 3), padding=(0, 1), dilation=(1, 2), kernel=kernel)
    with pytest.raises(BatchError, match="dilation .* is larger than the picture"):
        layer.forward(torch.ones(1, 1, 1, 1))
    assert layer.forward(torch.ones(1, 1, 1, 2))[0].item() == 1


def test_sizes_of_nothing():
    for layer, sizes in [(Linear, (0, 3)), (Linear, (3, 0)), (Conv2d, (0, 3, 2)), (Conv2d, (3, 0, 2))]:
        with pytest.raises(ValueError, match="must be at least 1"):
            layer(*sizes)
    Linear(1, 1), Conv2d(1, 1, 1)
    with pytest.raises(BatchError, match=r"Flatten takes samples \(N, …\), not \(5,\)"):
        Flatten().forward(torch.randn(5))
    assert Flatten().forward(torch.randn(5, 0))[0].shape == (5, 0)
