"""A check that has nothing to judge is "not checked", with the reason, and never passes."""

import sys

import pytest
import torch

from nets.commands.gradcheck import main
from nets.common.errors import MismatchError, Terminated
from nets.gradcheck import assert_gradients, check
from nets.layers.activations import Tanh
from nets.layers.base import Layer
from nets.layers.containers import Sequential
from nets.layers.linear import Flatten, Linear

X = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
NAN = torch.full_like(X, float("nan"))


class Square(Layer):
    """y = x², with a way to spoil it: spoil(method, tensor) -> tensor."""

    def __init__(self, spoil=lambda method, t: t):
        super().__init__()
        self.spoil = spoil

    def forward(self, x):
        return self.spoil("forward", x * x), x

    def backward(self, x, dy):
        return self.spoil("backward", 2 * x * dy), {}


def leaves(where):
    def spoil(method, t):
        if method == where:
            sys.exit(0)
        return t

    return spoil


def not_checked(report, reason):
    assert not report.ok and not report.guilty
    assert "not checked" in report.problem and reason in report.problem and reason in report.table()
    return True


@pytest.mark.parametrize(
    "make", [Square, Tanh, lambda: Linear(5, 3), lambda: Sequential(Linear(5, 3), Tanh())]
)
def test_an_input_of_nan(make):
    assert not_checked(check(make(), NAN), "no entry is finite")
    with pytest.raises(AssertionError, match="not checked"):
        assert_gradients(make(), NAN)


@pytest.mark.parametrize("make, x", [(Square, X[:0]), (lambda: Linear(5, 3), X[:0]), (Flatten, X[:, :0])])
def test_an_output_without_elements(make, x):
    assert not_checked(check(make(), x), "the output has no elements")


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_layer_that_ends_the_program(where):
    assert not_checked(check(Square(leaves(where)), X), "SystemExit: 0")
    assert not_checked(check(Sequential(Square(leaves(where))), X), "SystemExit: 0")


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_sigterm_during_a_check_is_no_verdict(where):
    def spoil(method, t):
        if method == where:
            raise Terminated  # as the handler of a command does
        return t

    with pytest.raises(Terminated) as e:
        check(Square(spoil), X)
    assert e.value.code == 143


class Masked(Layer):
    """y = a·x, with −inf (or NaN) in one place; `detached` cuts its forward off."""

    def __init__(self, value, detached=False):
        super().__init__()
        self.params["a"] = torch.full((5,), 1.5)
        self.value, self.detached = value, detached

    def forward(self, x):
        a = self.params["a"].to(x.dtype)
        y = (a * x).detach() + 0 * a * x if self.detached else a * x
        mask = torch.zeros_like(y, dtype=torch.bool)
        mask[0, 0] = True
        return y.masked_fill(mask, self.value), (x, mask)

    def backward(self, saved, dy):
        x, mask = saved
        dy = dy.masked_fill(mask, 0)
        zero = 0 if self.detached else 1
        return zero * self.params["a"].to(dy.dtype) * dy, {"a": zero * (dy * x).sum(0)}


@pytest.mark.parametrize("value", [float("-inf"), float("inf"), float("nan")])
def test_one_entry_of_the_output_that_is_not_finite(value):
    report = check(Masked(value), X)
    assert report.ok and all(row.difference is not None for row in report.rows)
    assert not check(Masked(value, detached=True), X).ok


class Drawn(Layer):
    """Draws from a generator that no check can set back."""

    def forward(self, x):
        factor = torch.rand(x.shape, generator=GENERATOR, dtype=x.dtype)
        return x * factor, factor

    def backward(self, factor, dy):
        return factor * dy, {}


GENERATOR = torch.Generator().manual_seed(0)


def test_random_numbers_that_cannot_be_drawn_again():
    assert not_checked(check(Drawn(), X), "two forwards with the same random numbers differ")


MODULE = """
import sys
import torch
from nets.layers import Layer, Linear

class Ends(Linear):
    def forward(self, x):
        sys.exit(0)

class EndsLater(Linear):
    def backward(self, saved, dy, input_grad=True):
        sys.exit(0)

def forward(): return Ends(5, 3), torch.randn(4, 5, dtype=torch.float64)
def backward(): return EndsLater(5, 3), torch.randn(4, 5, dtype=torch.float64)
def nan(): return Linear(5, 3), torch.full((4, 5), float("nan"), dtype=torch.float64)
def nothing(): return Linear(5, 3), torch.randn(0, 5, dtype=torch.float64)
"""


@pytest.mark.parametrize("name", ["forward", "backward", "nan", "nothing"])
@pytest.mark.parametrize("options", [[], ["--dtype", "float32"], ["--dtype", "bfloat16", "--seeds", "2"]])
def test_the_command_exits_with_6(name, options, tmp_path, monkeypatch, capsys):
    (tmp_path / "unjudged_.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MismatchError, match="not checked") as e:
        main([f"unjudged_:{name}", "--device", "cpu", *options])
    assert e.value.code == 6 and "every gradient agrees" not in capsys.readouterr().out
    sys.modules.pop("unjudged_")
