"""The checker passes what is right, and names what is wrong."""

import pytest
import torch

from nets.gradcheck import assert_gradients, check, compare
from nets.gradcheck.measure import cosine, tolerance, ulps
from nets.layers import containers as net
from nets.layers.activations import ReLU, Tanh
from nets.layers.base import Layer
from nets.layers.containers import Net, Residual, Sequential
from nets.layers.conv import Conv2d
from nets.layers.dropout import Dropout
from nets.layers.linear import Linear
from nets.layers.norm import BatchNorm2d
from nets.losses import CrossEntropyLoss, Performance
from nets.training import build


@pytest.mark.parametrize("loss", [CrossEntropyLoss(0.1), Performance()])
def test_a_wrong_loss_is_named(loss, monkeypatch):
    layer, x = Linear(4, 3).to(torch.float64), torch.randn(5, 4, dtype=torch.float64)
    target = torch.randint(3, (5,))
    assert check(layer, x, loss=loss, target=target).ok
    right = type(loss).__call__
    monkeypatch.setattr(type(loss), "__call__", lambda *a: (right(*a)[0], right(*a)[1] * 2))
    report = check(layer, x, loss=loss, target=target)
    assert not report.ok and report.first_bad == f"loss ({type(loss).__name__}), dy"


class Twice(Layer):
    """A user's own layer, y = a·x², which no twin knows."""

    def __init__(self, error=0.0):
        super().__init__()
        self.params["a"] = torch.tensor([1.5])
        self.error = error

    def forward(self, x):
        return self.params["a"] * x * x, x

    def backward(self, saved, dy):
        x, a = saved, self.params["a"]
        return (2 + self.error) * a * x * dy, {"a": (dy * x * x).sum().reshape(1)}


def test_a_layer_of_ones_own():
    x = torch.randn(4, 5, dtype=torch.float64)
    assert check(Twice().to(torch.float64), x).ok
    report = check(Sequential(Linear(5, 5), Twice(1e-3), Tanh()).to(torch.float64), x)
    assert not report.ok and report.first_bad == "1 (Twice), input"


class Side(Net):
    """A user's own net, y = left(x) · right(x)."""

    def __init__(self, left, right, sign=1):
        super().__init__(left=left, right=right)
        self.sign = sign

    def forward(self, x):
        (a, s), (b, t) = (child.forward(x) for child in self.children.values())
        return a * b, [(a, s), (b, t)]

    def backward(self, saved, dy, keep=False):
        ((a, s), (b, t)), grads = saved, {}
        left, right = self.children.values()
        dx, new = left.backward(s, dy * b)
        self._collect(grads, "left", new)
        dx2, new = right.backward(t, dy * a)
        self._collect(grads, "right", new)
        return dx + self.sign * dx2, grads


def test_a_net_of_ones_own():
    x = torch.randn(4, 5, dtype=torch.float64)
    assert check(Side(Linear(5, 3), Linear(5, 3)).to(torch.float64), x).ok
    report = check(Sequential(Side(Linear(5, 3), Linear(5, 3), -1), Tanh()).to(torch.float64), x)
    assert not report.ok and report.first_bad == "0 (Side), input"


def test_any_layout_of_parameters_and_input():
    linear, conv = Linear(3, 3).to(torch.float64), Conv2d(3, 4, 3).to(torch.float64)
    linear.params["weight"] = torch.randn(3, 3, dtype=torch.float64).T
    assert check(linear, torch.randn(3, 4, dtype=torch.float64).T).ok
    conv.params["weight"] = conv.params["weight"].contiguous(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    assert check(conv, x).ok


TINY = {  # how to make each layer, and its input
    "Linear": (dict(inputs=4, outputs=3), (2, 4)),
    "Scale": (dict(factor=0.5), (2, 4)),
    "Conv2d": (dict(in_channels=2, out_channels=3, kernel_size=3), (2, 2, 5, 6)),
    "MaxPool2d": (dict(kernel_size=2), (2, 2, 5, 6)),
    "AvgPool2d": (dict(kernel_size=2), (2, 2, 5, 6)),
    "AdaptiveAvgPool2d": (dict(output_size=3), (2, 2, 5, 6)),
    "BatchNorm2d": (dict(channels=2), (3, 2, 5, 6)),
    "LocalResponseNorm": (dict(size=3, alpha=0.5), (2, 4, 5, 6)),
    "Whiten2d": (dict(channels=2), (2, 2, 5, 6)),
    "Sequential": ((Tanh(),), (2, 4)),
    "Residual": ((Tanh(),), (2, 4)),
}


@pytest.mark.parametrize("name", build.LAYERS)
def test_a_flipped_sign_in_any_layer_and_any_of_its_gradients(name):
    options, shape = TINY.get(name, ({}, (2, 2, 5, 6)))
    make = build.LAYERS[name]
    layer = (make(*options) if isinstance(options, tuple) else make(**options)).to(torch.float64)
    x, right = torch.randn(shape, dtype=torch.float64), layer.backward
    assert check(layer, x).ok

    def flipped(tensor):
        def backward(saved, dy, *keep):
            dx, grads = right(saved, dy, *keep)
            if tensor == "input":
                return -dx, grads
            return dx, {k: -g if k == tensor else g for k, g in grads.items()}

        return backward

    for tensor in ("input", *layer.params):
        layer.backward = flipped(tensor)
        assert check(layer, x).first_bad == f"{name}, {tensor}"


def broken(cls, *args, change, **options):
    layer = cls(*args, **options)
    right = layer.backward
    layer.backward = lambda saved, dy: change(*right(saved, dy))
    return layer


@pytest.mark.parametrize(
    "change, where",
    [
        (lambda dx, g: (dx, {}), "0 (Conv2d), weight"),
        (lambda dx, g: (dx, g | {"weight": g["weight"].transpose(2, 3)}), "0 (Conv2d), weight"),
        (lambda dx, g: (dx, g | {"bias": g["bias"] / 7}), "0 (Conv2d), bias"),
        (lambda dx, g: (dx * (1 + 1e-8), g), "0 (Conv2d), input"),
        (lambda dx, g: (dx * float("nan"), g), "0 (Conv2d), input"),
        (lambda dx, g: (dx[..., :-1], g), "0 (Conv2d), input"),
    ],
)
def test_small_and_odd_errors_are_found(change, where):
    conv = broken(Conv2d, 2, 3, 3, change=change)
    net = Sequential(conv, ReLU()).to(torch.float64)
    report = check(net, torch.randn(2, 2, 7, 7, dtype=torch.float64))
    assert not report.ok and report.first_bad == where
    assert "WRONG" in report.table() and where in report.table()


def test_a_container_that_forgets_its_shortcut_is_named(monkeypatch):
    monkeypatch.setattr(
        Residual, "backward", lambda self, s, dy, keep=False: self.children["body"].backward(s[0], dy)
    )
    net = Sequential(Linear(3, 3), Residual(Tanh()), Tanh()).to(torch.float64)
    report = check(net, torch.randn(2, 3, dtype=torch.float64))
    assert report.first_bad == "1 (Residual), input"


def test_a_gradient_overwritten_on_reuse_is_found(monkeypatch):
    def overwrite(self, grads, child, new):
        grads.update({self._names[f"{child}.{k}"]: g for k, g in new.items()})

    shared = Linear(3, 3)
    net_ = Sequential(shared, Tanh(), shared).to(torch.float64)
    x = torch.randn(2, 3, dtype=torch.float64)
    assert check(net_, x).ok
    monkeypatch.setattr(net.Net, "_collect", overwrite)
    report = check(net_, x)
    assert not report.ok and report.first_bad == "Sequential, 0.weight"


def test_finite_differences_find_an_error_that_autograd_shares(monkeypatch):
    """A layer whose own forward is its oracle: only finite differences see a cut graph."""

    class Cut(Twice):
        def forward(self, x):
            return self.params["a"] * x * x.detach(), x

        def backward(self, saved, dy):
            x, a = saved, self.params["a"]
            return a * x * dy, {"a": (dy * x * x).sum().reshape(1)}

    report = check(Cut().to(torch.float64), torch.randn(4, 5, dtype=torch.float64))
    row = report.rows[-1]
    assert row.tensor == "input" and row.relative < 1e-10 and row.difference > 0.1
    assert report.guilty == ["Cut, input"]
    net_ = Sequential(Linear(5, 5), Tanh(), Cut(), Tanh()).to(torch.float64)
    report = check(net_, torch.randn(4, 5, dtype=torch.float64))
    assert report.guilty == ["2 (Cut), input"]
    assert next(r for r in report.rows if r.name == "0 (Linear), weight").verdict == "infected"


def test_the_checked_net_is_left_as_it_was():
    net = Sequential(Conv2d(3, 4, 3), BatchNorm2d(4), ReLU(), Dropout(0.5)).to(torch.float64)
    before = {k: v.clone() for k, v in (net.params | net.buffers).items()}
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    kept, draws = x.clone(), torch.get_rng_state()
    assert check(net, x).ok
    assert all(torch.equal(v, before[k]) for k, v in (net.params | net.buffers).items())
    assert torch.equal(x, kept) and torch.equal(draws, torch.get_rng_state())
    assert "forward" not in vars(net.children["0"])


def verdicts(report):
    return {row.name: row.verdict for row in report.rows}


def test_layers_behind_a_wrong_one_are_infected_and_not_guilty():
    wrong = broken(Tanh, change=lambda dx, g: (dx * 1.5, g))
    layers = [Linear(4, 4), Tanh(), Linear(4, 4), wrong, Linear(4, 4)]
    report = check(Sequential(*layers).to(torch.float64), torch.randn(3, 4, dtype=torch.float64))
    found = verdicts(report)
    assert [name for name, v in found.items() if v == "ok"] == [
        *("4 (Linear), weight", "4 (Linear), bias", "4 (Linear), input")
    ]
    assert report.guilty == ["3 (Tanh), input"]
    assert {v for name, v in found.items() if name.startswith(("0", "1", "2", "Seq"))} == {"infected"}
    assert "infected: 7 tensors" in report.table()


def test_two_wrong_layers_are_both_named():
    layers = [broken(Linear, 4, 4, change=lambda dx, g: (dx, g | {"bias": -g["bias"]})), Tanh()]
    layers += [broken(Tanh, change=lambda dx, g: (-dx, g)), Linear(4, 2)]
    report = check(Sequential(*layers).to(torch.float64), torch.randn(3, 4, dtype=torch.float64))
    assert report.guilty == ["2 (Tanh), input", "0 (Linear), bias"]


def test_a_wrong_layer_that_is_used_twice_is_wrong_twice():
    shared = broken(Tanh, change=lambda dx, g: (2 * dx, g))
    report = check(
        Sequential(shared, Linear(3, 3), shared).to(torch.float64), torch.randn(2, 3, dtype=torch.float64)
    )
    assert report.guilty == ["0 (Tanh), input"] * 2


def test_a_gradient_that_cancels_is_measured_against_its_terms():
    """A bias before a norm has gradient 0, and what remains of it is rounding."""
    net_ = Sequential(Conv2d(3, 4, 1), BatchNorm2d(4)).to(torch.float64)
    report = check(net_, torch.randn(5, 3, 6, 6, dtype=torch.float64))
    row = next(r for r in report.rows if r.name == "0 (Conv2d), bias")
    assert report.ok and abs(row.autograd) < 1e-12 and row.scale > 1


class Kink(Layer):
    """ReLU with a slope of one's own at 0."""

    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, x):
        return torch.relu(x), x

    def backward(self, x, dy):
        return torch.where(x == 0, self.slope, (x > 0).to(x.dtype)) * dy, {}


@pytest.mark.parametrize(
    "slope, verdict", [(0.0, "ok"), (1.0, "kink"), (0.5, "kink"), (1.5, "WRONG"), (-0.1, "WRONG")]
)
def test_at_a_kink_any_slope_between_its_sides_is_no_error(slope, verdict):
    x = torch.randn(4, 5, dtype=torch.float64)
    x[::2, ::2] = 0
    report = check(Sequential(Linear(5, 5, bias=False), Kink(slope)).to(torch.float64), x)
    assert report.ok
    net_ = Sequential(Kink(slope), Tanh()).to(torch.float64)
    report = check(net_, x)
    assert report.kinks == (["0 (Kink), input"] if verdict == "kink" else [])
    assert report.ok == (verdict != "WRONG") and ("at kinks" in report.table()) == (verdict == "kink")


class Tied(Layer):
    """The largest of a row; on a tie `give` says who gets dy."""

    def __init__(self, give):
        super().__init__()
        self.give = give

    def forward(self, x):
        return x.max(1, keepdim=True).values, x

    def backward(self, x, dy):
        return self.give(x == x.max(1, keepdim=True).values) * dy, {}


@pytest.mark.parametrize(
    "give, verdict",
    [
        (lambda tie: tie & (tie.cumsum(1) == 1), "ok"),  # the first, as torch's max has it
        (lambda tie: tie / tie.sum(1, keepdim=True), "kink"),  # all, a share each
        (lambda tie: tie & (tie.flip(1).cumsum(1).flip(1) == 1), "kink"),  # the last
        (lambda tie: tie.double(), "WRONG"),  # each of them, which counts dy twice
        (lambda tie: tie & (tie.sum(1, keepdim=True) == 1), "WRONG"),  # none of them
    ],
)
def test_who_wins_a_tie(give, verdict):
    x = torch.randn(6, 4, dtype=torch.float64)
    x[::2, 1] = x[::2, 3] = 5.0
    report = check(Tied(give), x)
    assert verdicts(report) == {"Tied, input": verdict}


def test_every_difference_that_rounding_explains_is_allowed_and_no_more():
    assert tolerance(torch.float64, 10_000) == 4 * 2**-52 * 101
    assert tolerance(torch.float64, 10_000, layers=7) == 7 * tolerance(torch.float64, 10_000)
    assert tolerance(torch.bfloat16, 100) == 4 * (2**-7 + 10 * 2**-23)  # sums are in float32
    x = torch.randn(4, 5, dtype=torch.float64)
    for off, ok in ((1e-15, True), (1e-12, False)):
        layer = broken(Linear, 5, 5, change=lambda dx, g: (dx * (1 + off), g)).to(torch.float64)
        assert check(layer, x, samples=0).ok == ok


def test_compare():
    a = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    b = a.clone()
    b[1, 0] += 0.5
    assert compare(b, a) == (0.5, 0.125, (1, 0), 3.5, 3.0)
    nan = torch.tensor([1.0, float("nan")])
    assert compare(nan, nan)[0] == 0
    assert compare(nan, torch.ones(2))[1] == float("inf")
    assert compare(torch.ones(2), torch.ones(3))[1] == float("inf")
    assert compare(torch.zeros(2), torch.zeros(2))[1] == 0
    assert compare(torch.ones(2), torch.ones(2) + 1, floor=10.0).relative == 0.1


def test_cosine():
    a = torch.tensor([3.0, 0.0])
    assert cosine(2 * a, a) == 1 and cosine(-a, a) == -1 and cosine(a.flip(0), a) == 0
    assert cosine(0 * a, 0 * a) == 1 and cosine(0 * a, a) == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_ulps_count_the_steps_between_two_numbers(dtype):
    a = torch.tensor([1.0, 1.9, 1024.0, 3e-5, -7.0, 1e-30], dtype=dtype)
    whole = {torch.float64: torch.int64, torch.float32: torch.int32, torch.bfloat16: torch.int16}[dtype]
    for steps in (0, 1, 3):
        b = (a.view(whole) + steps).view(dtype)  # the next numbers, by their bits
        assert ulps(b, a, dtype) == (steps, steps)
    b = a.clone()
    b[0] += torch.finfo(dtype).eps
    assert ulps(b, a, dtype) == (0, 1)


def test_a_test_of_ones_own():
    x = torch.randn(4, 5, dtype=torch.float64)
    assert_gradients(Twice().to(torch.float64), x)
    with pytest.raises(AssertionError, match=r"Twice, input .* WRONG"):
        assert_gradients(Twice(1e-3).to(torch.float64), x)
