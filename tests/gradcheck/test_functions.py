"""The check of Functions, operators, modules and pairs: its sides, its options, and what it reports."""

import sys

import numpy as np
import pytest
import torch
from torch.autograd import Function

from nets.common.errors import UsageError
from nets.gradcheck import assert_gradients, check

X = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Square(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, dy):
        return 2 * dy * ctx.saved_tensors[0]


class Half(Square):
    @staticmethod
    def backward(ctx, dy):
        return dy * ctx.saved_tensors[0]


half = Half.apply  # bound before the check


def row_of(report, tensor="x"):
    return next(row for row in report.rows if row.tensor == tensor)


def test_the_sides_of_a_function_are_its_gradient_and_its_forward():
    for f in (Square, Square.apply):
        report = check(f, X)
        row = row_of(report)
        assert (
            report.ok and row.sides == 2 and row.difference < 1e-8 and row.order == pytest.approx(2, abs=0.1)
        )
    row = row_of(report := check(Half, X))
    assert row.verdict == "WRONG" and row.order == pytest.approx(1, abs=0.1)
    assert row.manual == pytest.approx(row.autograd / 2)
    assert "x: finite differences agree with autograd" in report.about


def test_a_right_gradient_beside_a_wrong_registered_one_is_right():
    right = lambda dy, x: 2 * dy * x  # noqa: E731
    for forward in (lambda x: Half.apply(x), half):
        assert check((forward, right), X).ok
    report = check((lambda x: Square.apply(x.detach()) + x, lambda dy, x: dy * (2 * x + 1)), X)
    assert report.ok
    said = "x: manual and finite differences agree, and autograd of the forward disagrees with both"
    assert said in report.about


def test_two_sides_that_are_wrong_together_are_wrong():
    report = check((lambda x: x.detach() * x, lambda dy, x: dy * x), X)
    assert report.guilty == ["<lambda>, x"]
    assert "x: manual and autograd agree, and finite differences disagree with both" in report.about


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_function_in_lower_precision_is_not_its_own_oracle(dtype):
    assert check(Square, X.to(dtype)).ok
    assert check(half, X.to(dtype)).guilty
    assert check(lambda x: half(x) + 0, X.to(dtype)).guilty


class Single(Square):
    """Works in float32 only, where autograd doesn't see it."""

    @staticmethod
    def forward(ctx, x):
        assert x.dtype == torch.float32
        ctx.save_for_backward(x)
        return torch.from_numpy(np.square(x.detach().numpy()))


def test_a_forward_in_float32_alone_is_judged_by_coarse_differences():
    class Wrong(Single):
        @staticmethod
        def backward(ctx, dy):
            return 2.1 * dy * ctx.saved_tensors[0]

    report = check(Single, X.float())
    assert report.ok, report.table()
    assert any("alone" in line for line in report.about) and "float64" in report.table()
    assert check(Wrong, X.float()).guilty


def test_a_pair_that_autograd_cannot_see_says_so():
    report = check((np.sin, lambda dy, x: dy * np.cos(x)), X.numpy())
    assert report.ok and row_of(report, report.rows[0].tensor).sides == 1
    assert any(
        line.startswith("judged by finite differences and the order test alone") for line in report.about
    )


def test_none_is_wrong_only_for_an_input_that_requires_a_gradient():
    pair = (lambda p, t: (p - t).square().mean(), lambda dy, p, t: (2 * dy * (p - t) / p.numel(), None))
    target = X.flip(0)
    report = check(pair, X, target)
    assert report.ok and "the gradient of t is None" in report.notes[0]
    assert check(pair, X.clone().requires_grad_(), target).ok
    assert check(pair, X.clone().requires_grad_(), target.requires_grad_()).breaches


def test_a_surrogate_is_declared():
    pair = (lambda x: x.round(), lambda dy, x: dy)
    assert check(pair, X).guilty
    assert check(pair, X, surrogate=["x"]).rows[0].verdict == "declared"
    with pytest.raises(UsageError, match="no input is named w"):
        check(pair, X, surrogate=["w"])


def test_a_gradient_of_another_shape_is_named():
    report = check((lambda x: x * 2, lambda dy, x: 2 * dy[:1]), X)
    assert report.breaches == ["the gradient of x is (1, 5), not (4, 5)"]


def test_nothing_to_judge_is_not_checked():
    for f, x, reason in (
        (lambda x: x.detach(), X, "give a pair"),
        (Square, X[:0], "no elements"),
        (Square, torch.arange(3), "no input is a tensor of floating numbers"),
        (lambda x: x + next(counter), X, "two forwards"),
        (lambda x: sys.exit(3), X, "SystemExit: 3"),
    ):
        counter = iter(range(100))
        report = check(f, x)
        assert not report.ok and reason in report.unchecked
    with pytest.raises(UsageError, match="can't be called"):
        check(3, X)


def test_the_inputs_are_left_unchanged_and_named():
    before = X.clone()
    report = check((lambda x: x.mul_(2), lambda dy, x: 2 * dy), X)
    assert report.ok and torch.equal(X, before)
    assert report.about[0].startswith("inputs tried: as given, ties, zeros, heavy tails")
    assert not any("inputs" in line for line in check(Square, X, others=False).about)


def test_inputs_outside_of_the_domain_are_left_out():
    report = check((torch.log, lambda dy, x: dy / x), X.abs() + 0.1)
    assert report.ok and any(line.startswith("inputs left out: zeros") for line in report.about)


def test_the_output_gradient_can_be_given():
    assert check(Square, X, dy=torch.ones_like(X)).ok
    with pytest.raises(UsageError, match="dy must be"):
        check(Square, X, dy=torch.ones(3))


def test_random_numbers_of_a_forward_are_drawn_again():
    class Drop(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mask = torch.rand_like(x) < 0.5
            return x * ctx.mask

        @staticmethod
        def backward(ctx, dy):
            return dy * ctx.mask

    assert check(Drop, X).ok


def test_a_test_fails_with_the_table():
    assert_gradients(Square, X)
    with pytest.raises(AssertionError, match="WRONG"):
        assert_gradients(Half, X)
