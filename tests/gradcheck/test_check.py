"""The checker passes what is right, and names what is wrong."""

import pytest
import torch

from nets.gradcheck import assert_gradients, check
from nets.kernels import BACKENDS, lower
from nets.layers.activations import ReLU, Tanh
from nets.layers.base import Layer
from nets.layers.containers import Net, Residual, Sequential
from nets.layers.conv import Conv2d
from nets.layers.dropout import Dropout
from nets.layers.linear import Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.registry import LAYERS, examples
from nets.losses import CrossEntropyLoss, Performance


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
    """A user's own layer, y = a·x², which torch doesn't have."""

    def __init__(self, error=0.0):
        super().__init__()
        self.params["a"] = torch.tensor([1.5])
        self.error = error

    def forward(self, x):
        return self.params["a"] * x * x, x

    def backward(self, saved, dy):
        x, a = saved, self.params["a"]
        return (2 + self.error) * a * x * dy, {"a": (dy * x * x).sum().reshape(1)}


def test_a_users_layer_is_checked_without_a_torch_module():
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

    def backward(self, saved, dy, input_grad=True, keep=False):
        ((a, s), (b, t)), grads = saved, {}
        left, right = self.children.values()
        dx, new = left.backward(s, dy * b)
        self._collect(grads, "left", new)
        dx2, new = right.backward(t, dy * a)
        self._collect(grads, "right", new)
        return dx + self.sign * dx2, grads


def test_a_users_net_is_checked():
    x = torch.randn(4, 5, dtype=torch.float64)
    assert check(Side(Linear(5, 3), Linear(5, 3)).to(torch.float64), x).ok
    report = check(Sequential(Side(Linear(5, 3), Linear(5, 3), -1), Tanh()).to(torch.float64), x)
    assert not report.ok and report.first_bad == "0 (Side), input"


def test_parameters_and_input_may_have_any_layout():
    linear, conv = Linear(3, 3).to(torch.float64), Conv2d(3, 4, 3).to(torch.float64)
    linear.params["weight"] = torch.randn(3, 3, dtype=torch.float64).T
    assert check(linear, torch.randn(3, 4, dtype=torch.float64).T).ok
    conv.params["weight"] = conv.params["weight"].contiguous(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    assert check(conv, x).ok


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", LAYERS)
def test_a_flipped_sign_in_any_gradient_of_any_layer_or_form_is_named(name, backend):
    _, layer, shape = examples(LAYERS[name])[0]
    layer = lower(layer, backend, "cpu", torch.float64).to(torch.float64)
    x, right = torch.randn(shape, dtype=torch.float64), layer.backward
    assert check(layer, x).ok

    def flipped(tensor):
        def backward(saved, dy, **options):
            dx, grads = right(saved, dy, **options)
            if tensor == "input":
                return -dx, grads
            return dx, {k: -g if k == tensor else g for k, g in grads.items()}

        return backward

    for tensor in ("input", *layer.params):
        layer.backward = flipped(tensor)
        assert check(layer, x).first_bad == f"{type(layer).__name__}, {tensor}"


def broken(cls, *args, change, **options):
    layer = cls(*args, **options)
    right = layer.backward
    layer.backward = lambda saved, dy, **options: change(*right(saved, dy, **options))
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
def test_small_and_odd_errors_are_found_and_named(change, where):
    conv = broken(Conv2d, 2, 3, 3, change=change)
    net = Sequential(conv, ReLU()).to(torch.float64)
    report = check(net, torch.randn(2, 2, 7, 7, dtype=torch.float64))
    assert not report.ok and report.first_bad == where
    assert "WRONG" in report.table() and where in report.table()


def test_a_container_that_forgets_its_shortcut_is_named(monkeypatch):
    monkeypatch.setattr(
        Residual, "backward", lambda self, s, dy, **_: self.children["body"].backward(s[0], dy)
    )
    net = Sequential(Linear(3, 3), Residual(Tanh()), Tanh()).to(torch.float64)
    report = check(net, torch.randn(2, 3, dtype=torch.float64))
    assert report.first_bad == "1 (Residual), input"


def test_a_gradient_overwritten_on_reuse_is_named(monkeypatch):
    def overwrite(self, grads, child, new):
        grads.update({self._names[f"{child}.{k}"]: g for k, g in new.items()})

    shared = Linear(3, 3)
    net_ = Sequential(shared, Tanh(), shared).to(torch.float64)
    x = torch.randn(2, 3, dtype=torch.float64)
    assert check(net_, x).ok
    monkeypatch.setattr(Net, "_collect", overwrite)
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


def test_layers_before_a_wrong_one_are_infected_and_not_guilty():
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


def test_assert_gradients_raises_with_the_table():
    x = torch.randn(4, 5, dtype=torch.float64)
    assert_gradients(Twice().to(torch.float64), x)
    with pytest.raises(AssertionError, match=r"Twice, input .* WRONG"):
        assert_gradients(Twice(1e-3).to(torch.float64), x)
