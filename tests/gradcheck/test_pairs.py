"""The forms of a backward in a pair, and of what it returns."""

import pytest
import torch

from nets.common.errors import UsageError
from nets.gradcheck import check

X, W = torch.randn(3, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)


@pytest.mark.parametrize(
    "forward, backward, form",
    [
        (lambda x: x.sin(), lambda dy, x: dy * x.cos(), "backward(dy, *inputs)"),
        (lambda x: x.sin(), lambda x, dy: dy * x.cos(), "backward(*inputs, dy)"),
        (lambda x: x.sin(), lambda grad_output, x: grad_output * x.cos(), "backward(dy, *inputs)"),
        (lambda x: (x.sin(), x), lambda saved, dy: dy * saved.cos(), "backward(saved, dy)"),
        (lambda x: (x.sin(), (x,)), lambda res, g: g * res[0].cos(), "backward(saved, dy)"),
        (lambda x: (x.sin(), x), lambda dy, cache: dy * cache.cos(), "backward(dy, saved)"),
        (
            lambda x: (x.sin(), x * x),
            lambda dys, x: dys[0] * x.cos() + 2 * x * dys[1],
            "backward(dy, *inputs)",
        ),
    ],
)
def test_how_backward_is_called(forward, backward, form):
    report = check((forward, backward), X)
    assert report.ok and f"manual: {form}" in report.about, report.table()


@pytest.mark.parametrize(
    "pack",
    [
        lambda dx, dw: (dx, dw),
        lambda dx, dw: [dx, dw, None],
        lambda dx, dw: {"w": dw, "x": dx},
        lambda dx, dw: (dx, {"w": dw}),
    ],
)
def test_what_backward_returns(pack):
    pair = (lambda x, w, n: x * w * n, lambda dy, x, w, n: pack(dy * w * n, (dy * x * n).sum(0)))
    report = check(pair, X, W, 3)
    assert report.ok and [row.tensor for row in report.rows] == ["x", "w"], report.table()


def test_a_wrong_number_of_gradients_is_an_error():
    with pytest.raises(UsageError, match="backward returned 3 gradients for 2 floating inputs"):
        check((lambda x, w: x * w, lambda dy, x, w: (dy, dy, dy)), X, W)
    with pytest.raises(UsageError, match="a pair must be two functions"):
        check((torch.sin, torch.cos, torch.tan), X)
