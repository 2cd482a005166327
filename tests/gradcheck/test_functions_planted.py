"""Right and wrong gradients of Functions, operators, modules and pairs: each is judged as it is."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import Function

from nets.gradcheck import check

RIGHT, WRONG = [], []  # (f, its inputs)


def right(name, f, *inputs, **kwargs):
    RIGHT.append(pytest.param(f, inputs, kwargs, id=name))


def wrong(name, f, *inputs, tensor="x", **kwargs):
    WRONG.append(pytest.param(f, inputs, kwargs, tensor, id=name))


def function(forward, backward):
    """A Function whose forward saves its inputs. backward(dy, *inputs)."""

    class Made(Function):
        @staticmethod
        def forward(ctx, *inputs):
            ctx.save_for_backward(*(t for t in inputs if isinstance(t, torch.Tensor)))
            ctx.others = len(inputs)
            return forward(*inputs)

        @staticmethod
        def backward(ctx, *dys):
            found = backward(*dys, *ctx.saved_tensors)
            found = found if isinstance(found, tuple) else (found,)
            return (*found, *[None] * (ctx.others - len(found)))

    return Made


def draw(*shape, seed=0, positive=False):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.abs() + 0.1 if positive else x


X, W = draw(4, 5), draw(5, 3, seed=1)

# Functions of one input: forward, the right backward, wrong ones by name.
ONE = {
    "cube": (lambda x: x**3, lambda dy, x: 3 * x**2 * dy, {"2 for 3": lambda dy, x: 2 * x**2 * dy}),
    "exp": (torch.exp, lambda dy, x: dy * x.exp(), {"no factor": lambda dy, x: dy}),
    "relu": (
        lambda x: x.clamp(min=0),
        lambda dy, x: dy * (x > 0),
        {"the other half": lambda dy, x: dy * (x < 0), "abs": lambda dy, x: dy * x.sign()},
    ),
    "leaky": (
        lambda x: torch.where(x > 0, x, 0.01 * x),
        lambda dy, x: torch.where(x > 0, dy, 0.01 * dy),
        {"without the small slope": lambda dy, x: dy * (x > 0)},
    ),
    "softmax": (
        lambda x: x.softmax(-1),
        lambda dy, x: (s := x.softmax(-1)) * (dy - (dy * s).sum(-1, keepdim=True)),
        {"diagonal only": lambda dy, x: (s := x.softmax(-1)) * (1 - s) * dy},
    ),
    "hardtanh": (lambda x: x.clamp(-1, 1), lambda dy, x: dy * (x.abs() <= 1), {"no clip": lambda dy, x: dy}),
    "sorted": (
        lambda x: x.sort(-1).values,
        lambda dy, x: torch.zeros_like(x).scatter(-1, x.argsort(-1), dy),
        {"not permuted": lambda dy, x: dy, "twice": lambda dy, x: dy.gather(-1, x.argsort(-1))},
    ),
    "cumsum": (
        lambda x: x.cumsum(-1),
        lambda dy, x: dy.flip(-1).cumsum(-1).flip(-1),
        {"not reversed": lambda dy, x: dy.cumsum(-1)},
    ),
    "mean": (
        lambda x: x.mean(),
        lambda dy, x: (dy / x.numel()).expand_as(x),
        {"sum": lambda dy, x: dy + 0 * x},
    ),
    "logsumexp": (
        lambda x: x.logsumexp(-1),
        lambda dy, x: dy[:, None] * x.softmax(-1),
        {"first axis": lambda dy, x: dy[:, None] * x.softmax(0)},
    ),
    "gelu": (
        lambda x: nn.functional.gelu(x),
        lambda dy, x: dy * (torch.special.ndtr(x) + x * (-x * x / 2).exp() / (2 * torch.pi) ** 0.5),
        {"no product rule": lambda dy, x: dy * torch.special.ndtr(x)},
    ),
    "step function": (lambda x: x.round(), lambda dy, x: torch.zeros_like(x), {"straight": lambda dy, x: dy}),
}
for name, (forward, backward, bugs) in ONE.items():
    right(name, function(forward, backward), X)
    right(f"pair {name}", (forward, backward), X)
    for what, bug in bugs.items():
        wrong(f"{name}, {what}", function(forward, bug), X)
        wrong(f"pair {name}, {what}", (forward, bug), X)


def first_entry(dy, x):
    found = 3 * x**2 * dy
    found[0, 0] *= 1.5
    return found


def far_out(dy, x):
    return torch.where((x > 2) & (x < 3), 0.5, 1.0) * 3 * x**2 * dy


def at_a_tie(dy, x):
    """Both of two equal numbers get dy."""
    return dy[:, None] * (x == x.max(-1, keepdim=True).values)


wrong("the first entry", function(lambda x: x**3, first_entry), X)
wrong("where no number was drawn", function(lambda x: x**3, far_out), X)
wrong("ties count twice", function(lambda x: x.max(-1).values, at_a_tie), X)
right(
    "max",
    function(lambda x: x.max(-1).values, lambda dy, x: dy[:, None] * nn.functional.one_hot(x.argmax(-1), 5)),
    X,
)

# Several inputs.
MATMUL = (lambda x, w: x @ w, lambda dy, x, w: (dy @ w.T, x.T @ dy))
right("matmul", function(*MATMUL), X, W)
wrong(
    "matmul, dw of dy alone",
    function(MATMUL[0], lambda dy, x, w: (dy @ w.T, x.T @ dy.sign())),
    X,
    W,
    tensor="w",
)
right("a broadcast bias", (lambda x, b: x + b, lambda dy, x, b: (dy, dy.sum(0))), X, draw(5))
wrong("a bias of means", (lambda x, b: x + b, lambda dy, x, b: (dy, dy.mean(0))), X, draw(5), tensor="b")
right("an index", function(lambda x, i: x[i], lambda dy, x, i: torch.zeros_like(x).index_add(0, i, dy)), X,
      torch.tensor([0, 2, 2]))  # fmt: skip


def overwritten(dy, x, i):
    found = torch.zeros_like(x)
    found[i] = dy
    return found


wrong("a repeated index", function(lambda x, i: x[i], overwritten), X, torch.tensor([0, 2, 2]))
right(
    "a mask, a number and None",
    (lambda x, m, a, n: x * m * a, lambda dy, x, m, a, n: dy * m * a),
    X,
    X > 0,
    2.0,
    None,
)
wrong("a number forgotten", (lambda x, m, a: x * m * a, lambda dy, x, m, a: dy * m), X, X > 0, 2.0)
right("a keyword", (lambda x, *, a: x * a, lambda dy, x, *, a: dy * a), X, a=3.0)
wrong("a keyword forgotten", (lambda x, *, a: x * a, lambda dy, x, *, a: dy), X, a=3.0)


def nested(tree, pair):
    return {"sum": tree["a"] + pair[0] * pair[1], "product": (tree["a"] * pair[0],)}


def nested_backward(dy, tree, pair):
    ds, (dp,) = dy["sum"], dy["product"]
    return {"a": ds + dp * pair[0]}, (ds * pair[1] + dp * tree["a"], ds * pair[0])


def nested_wrong(dy, tree, pair):
    found, rest = nested_backward(dy, tree, pair)
    return found, (rest[0], rest[1] * 2)


TREE = ({"a": X}, (draw(4, 5, seed=2), draw(4, 5, seed=3)))
right("nested", (nested, nested_backward), *TREE)
wrong("nested, one factor", (nested, nested_wrong), *TREE, tensor="pair[1]")

# What autograd can't see.
right("numpy", (lambda x: np.sin(x), lambda dy, x: dy * np.cos(x)), X.numpy())
wrong("numpy, sign", (lambda x: np.cos(x), lambda dy, x: dy * np.sin(x)), X.numpy())
right("numpy inside", (lambda x: torch.from_numpy(np.sin(x.numpy())), lambda dy, x: dy * x.cos()), X)
wrong("numpy inside, no factor", (lambda x: torch.from_numpy(np.sin(x.numpy())), lambda dy, x: dy), X)
right("in place", (lambda x: x.mul_(x), lambda dy, x: 2 * x * dy), X)
wrong("in place, no factor", (lambda x: x.mul_(x), lambda dy, x: x * dy), X)


def into(x):
    y = torch.empty_like(x)
    with torch.no_grad():
        torch.sin(x, out=y)
    return y


right("out", (into, lambda dy, x: dy * x.cos()), X)
wrong("out, sign", (into, lambda dy, x: -dy * x.cos()), X)
right("saved", (lambda x: (x.tanh(), x.tanh()), lambda y, dy: dy * (1 - y * y)), X)
wrong("saved, no square", (lambda x: (x.tanh(), x.tanh()), lambda y, dy: dy * (1 - y)), X)
right("dy last", (lambda x: x.sin(), lambda x, dy: dy * x.cos()), X)
right("a Python number out", (lambda x: float((x * x).sum()), lambda dy, x: 2 * x * dy), X)


# Custom operators and modules.
@torch.library.custom_op("nets_tests::square", mutates_args=())
def square(x: torch.Tensor) -> torch.Tensor:
    return x * x


@torch.library.custom_op("nets_tests::wrong_square", mutates_args=())
def wrong_square(x: torch.Tensor) -> torch.Tensor:
    return x * x


def setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


square.register_autograd(lambda ctx, dy: 2 * dy * ctx.saved_tensors[0], setup_context=setup)
wrong_square.register_autograd(lambda ctx, dy: dy * ctx.saved_tensors[0], setup_context=setup)
right("custom operator", square, X)
wrong("custom operator, no factor", wrong_square, X)
right("calls an operator", lambda x: square(x.sin()), X)
wrong("calls a wrong operator", lambda x: wrong_square(x.sin()), X)
right("right beside a wrong registered one", (lambda x: wrong_square(x), lambda dy, x: 2 * x * dy), X)
wrong("both are wrong", (lambda x: wrong_square(x), lambda dy, x: x * dy), X)


class Own(nn.Module):
    """A linear layer with a BatchNorm, whose products are a Function's."""

    def __init__(self, product):
        super().__init__()
        self.weight = nn.Parameter(W.clone())
        self.norm, self.product = nn.BatchNorm1d(3).double(), product

    def forward(self, x):
        return self.norm(self.product.apply(x, self.weight)).square()


right("module", Own(function(*MATMUL)), X)
wrong(
    "module, a wrong weight",
    Own(function(MATMUL[0], lambda dy, x, w: (dy @ w.T, x.T @ dy * 2))),
    X,
    tensor="weight",
)
right("a torch module", nn.Sequential(nn.Linear(5, 4), nn.GELU(), nn.LayerNorm(4)).double(), X)
right("dropout", lambda x: nn.functional.dropout(x, 0.5), X)


class TwoOutputs(Function):
    """Sorted numbers and their places, which have no gradient."""

    factor = 1.0

    @staticmethod
    def forward(x):
        return tuple(x.sort(-1))

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @classmethod
    def backward(cls, ctx, dy, _):
        (places,) = ctx.saved_tensors
        return torch.zeros_like(dy).scatter(-1, places, dy)


right("an output without a gradient", TwoOutputs, X)


@pytest.mark.parametrize("f, inputs, kwargs", RIGHT)
def test_a_right_gradient_is_not_accused(f, inputs, kwargs):
    report = check(f, *inputs, **kwargs)
    assert report.ok, report.table()


@pytest.mark.parametrize("f, inputs, kwargs, tensor", WRONG)
def test_a_wrong_gradient_is_found_and_named(f, inputs, kwargs, tensor):
    report = check(f, *inputs, **kwargs)
    assert not report.ok and report.rows, report.table()
    names = {row.tensor.split(" ")[0] for row in report.rows if row.verdict == "WRONG"}
    assert names & {tensor, "input"} or len(inputs) == 1, report.table()


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("f, inputs, kwargs, tensor", WRONG)
def test_wrong_ones_are_found_in_float32(f, inputs, kwargs, tensor, seed):
    low = [v.float() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for v in inputs]
    if isinstance(f, nn.Module) or any(isinstance(v, (dict, np.ndarray)) for v in inputs):
        pytest.skip("in float64 only")
    assert not check(f, *low, seed=seed, **kwargs).ok


@pytest.mark.deep
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("f, inputs, kwargs", RIGHT)
def test_right_ones_are_not_accused_in_lower_precision(f, inputs, kwargs, dtype):
    if isinstance(f, nn.Module) or any(isinstance(v, (dict, np.ndarray)) for v in inputs):
        pytest.skip("in float64 only")
    low = [v.to(dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v for v in inputs]
    report = check(f, *low, **kwargs)
    assert report.ok or report.unchecked, report.table()
