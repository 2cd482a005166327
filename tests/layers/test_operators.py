"""The layers of a Graph's arithmetic and shapes, called by themselves: all inputs, broadcasting, sizes."""

import pytest
import torch

from nets.common.errors import BatchError, ModuleError
from nets.convert.from_torch import from_torch
from nets.layers.activations import Tanh
from nets.layers.arithmetic import Add, Affine, Div, MatMul, Mul, Sub
from nets.layers.containers import Sequential
from nets.layers.joining import Cat
from nets.layers.parameter import Parameter
from nets.layers.reduction import Mean, Sum
from nets.layers.reshaping import Expand, Permute, Reshape, Squeeze, Transpose, Unsqueeze
from nets.layers.sizes import Computed, Size
from tests.convert.test_from_torch import agree, forward
from tests.helpers import layouts, near

SHAPES = [((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1, 4), (5, 1)), ((1,), (2, 3)), ((2, 0), (1, 1)), ((), (3,))]
CASES = [
    *[(cls(), shapes) for cls in (Add, Sub, Mul, Div) for shapes in SHAPES],
    *[
        (MatMul(), s)
        for s in [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((0, 3), (3, 2))]
    ],
    *[(Cat(1), s) for s in [((3, 4), (3, 2), (3, 1)), ((2, 3, 4, 4), (2, 1, 4, 4)), ((2, 3), (2, 0))]],
    (Cat(-1), ((2, 3), (2, 4))),
    (Reshape((Size(0), -1)), ((3, 4, 2),)),
    (Reshape((Size(1, 1), Computed("//", Size(0), 2), -1)), ((4, 3), (1, 6))),
    (Reshape((-1, Size(1))), ((0, 3),)),
    (Reshape((1, -1, 1)), ((1, 6),)),
    (Expand((Size(0, 1), -1, 5)), ((3, 1), (2, 7))),
    (Permute((2, 0, -2)), ((3, 4, 5),)),
    (Transpose(0, -1), ((3, 4, 5),)),
    (Squeeze(0), ((1, 4),)),
    *[(Squeeze(dim), ((1, 4, 1),)) for dim in (-3, -1, 2)],
    *[(Unsqueeze(dim), ((3, 4),)) for dim in (-3, -2, -1, 0, 2)],
    (Transpose(-3, 2), ((3, 4, 5),)),
    (Mean((0, 2)), ((3, 4, 5),)),
    (Mean((-3, 2)), ((3, 4, 5),)),
    (Mean(-1, True), ((3, 4),)),
    (Sum((-1, 0)), ((3, 4, 5),)),
    (Affine(2.0, -0.5), ((3, 4),)),
]
IDS = [f"{type(layer).__name__}-{shapes}".replace(" ", "") for layer, shapes in CASES]


@pytest.mark.parametrize("layer, shapes", CASES, ids=IDS)
def test_every_input_has_autograds_gradient_in_every_layout(layer, shapes):
    given = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    for _, x in layouts(given[0]) if given[0].dim() else [("", given[0])]:
        xs = [x, *given[1:]]
        y, saved = layer.forward(*xs)
        theirs = [t.detach().clone().requires_grad_() for t in xs]
        z = layer.to_torch()(*theirs)
        near(y, z.detach(), 1e-12, "y")
        for dy in (torch.randn_like(y), torch.ones((), dtype=y.dtype).expand(y.shape)):
            kept = dy.clone()
            dxs, grads = layer.backward(saved, dy)
            found = torch.autograd.grad(z, theirs, dy, allow_unused=True, retain_graph=True)
            for dx, wanted in zip(dxs if len(xs) > 1 else [dxs], found, strict=True):
                if wanted is not None:
                    near(dx, wanted, 1e-10, "dx")
                else:
                    assert dx is None
            assert grads == {} and torch.equal(dy, kept)


DEFAULTS = [
    (Affine, (), lambda x: x),
    (Mean, (1,), lambda x: x.mean(1)),
    (Sum, (1,), lambda x: x.sum(1)),
    (Parameter, ((3,),), lambda x: torch.zeros(3)),
]


@pytest.mark.parametrize("cls, options, function", DEFAULTS, ids=lambda v: getattr(v, "__name__", ""))
def test_layer_and_module_have_the_same_defaults(cls, options, function):
    x, layer, (module, *_) = torch.randn(2, 4), cls(*options), cls.torch_types
    assert torch.equal(layer(x), function(x)) and torch.equal(module(*options)(x), function(x))
    assert layer.params.keys() == dict(module(*options).named_parameters()).keys()


CALLS = {
    "sub": lambda self, x: (x - 2) * (3 - x) * torch.sub(x, x.tanh()) * torch.sub(x, 0.5, alpha=1),
    "div": lambda self, x: (x / 4) / (x * x + 1),
    "mean": lambda self, x: x.mean(1, keepdim=True) * x.mean((1, 2))[:, None, None] * x.mean(2)[:, :, None],
    "mean of images": lambda self, x: (
        x[None].mean((2, 3)) * x[None].mean((-1, -2)) * x[None].mean((2, 3), True)
    ),
    "mean of channels": lambda self, x: x[None].mean((1, 3))[..., None] * x[None].mean((-3, -1))[..., None],
    "sum": lambda self, x: x.sum(1, keepdim=True) * x.sum(0) * torch.sum(x, 2)[:, :, None],
    "axes": lambda self, x: x.permute(2, 0, 1) @ x.permute([2, 1, 0]),
    "expand": lambda self, x: x[:, :1].expand(-1, 3, 4) * x[:, :1].expand([2, 3, 4]),
    "squeeze": lambda self, x: x[:, :1].squeeze(1) * x[:, 0],
    "t": lambda self, x: x[0].t(),
    "select": lambda self, x: x.select(1, 0) * x.select(0, 1)[0] * x.select(2, 3)[:, :1],
    "split": lambda self, x: x.split(1)[1] * x.split([1, 2], 1)[1][0, 0] * x.unbind()[1] * x.unbind(1)[2][0],
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_agree_with_torch(name):
    agree(forward(CALLS[name]), torch.randn(2, 3, 4, dtype=torch.float64))


MEANS = [((2, 3), "Global"), ((-1, -2), "Global"), ((1, 3), "Mean"), (2, "Mean")]


@pytest.mark.parametrize("dim, kind", MEANS)
def test_a_mean_over_rows_and_columns_is_a_global_pool(dim, kind):
    assert repr(from_torch(forward(lambda self, x: x.mean(dim)))).startswith(kind)
    assert repr(from_torch(forward(lambda self, x: x.mean(dim, keepdim=True)))).startswith("Mean")


UNKNOWN = {
    "sub with alpha=2": lambda self, x: torch.sub(x, 1, alpha=2),
    "mean over everything": lambda self, x: torch.mean(x),
    "sum over everything": lambda self, x: x.sum(),
    "squeeze of more than one axis": lambda self, x: x.squeeze(),
    "select of an axis from the end": lambda self, x: x.select(-1, 0),
    "division of a number, or one that rounds": lambda self, x: torch.div(x, 2, rounding_mode="floor"),
    "view as": lambda self, x: x.view(torch.int64),
}


@pytest.mark.parametrize("words", UNKNOWN)
def test_calls_that_no_layer_describes_are_refused(words):
    with pytest.raises(ModuleError, match=words):
        from_torch(forward(UNKNOWN[words]))


REFUSED = [
    (Add(), ((3, 4), (3, 5))),
    (Sub(), ((3, 4), (3, 5))),
    (Div(), ((3, 4), (3, 5))),
    (Mul(), ((3, 4), (2, 1, 3))),
    (MatMul(), ((3, 4), (3, 4))),
    (MatMul(), ((3,), (3, 4))),
    (MatMul(), ((3, 4), (4,))),
    (MatMul(), ((2, 3, 4), (3, 4, 5))),
    (MatMul(), ((4, 2, 3, 4), (3, 2, 4, 5))),
    (Cat(1), ((3, 4), (2, 4))),
    (Reshape((2, -1)), ((3, 3),)),
    (Reshape((-1, -1)), ((3, 3),)),
    (Reshape((-1, -1, 3)), ((3, 3),)),
    (Reshape((2, 3)), ((2, 2),)),
    (Reshape((0,)), ((2, 2),)),
    (Expand((3, 4)), ((2, 4),)),
    (Expand((4,)), ((2, 4),)),
    (Permute((1, 0)), ((2, 3, 4),)),
    (Transpose(0, 2), ((2, 3),)),
    (Transpose(2, 0), ((2, 3),)),
    (Transpose(-3, 0), ((2, 3),)),
    (Squeeze(2), ((2, 3),)),
    (Squeeze(-3), ((2, 3),)),
    (Unsqueeze(3), ((2, 3),)),
    (Unsqueeze(-4), ((2, 3),)),
    (Mean(2), ((2, 3),)),
    (Sum(-3), ((2, 3),)),
]


@pytest.mark.parametrize(
    "layer, shapes", REFUSED, ids=lambda v: type(v).__name__ if not isinstance(v, tuple) else str(v)
)
def test_shapes_that_do_not_fit_are_refused_in_one_line(layer, shapes):
    with pytest.raises(BatchError, match=type(layer).__name__) as error:
        layer.forward(*(torch.ones(shape) for shape in shapes))
    assert "\n" not in str(error.value)


def test_of_no_numbers_what_is_left_over_is_the_samples():
    """Torch can't divide by 0, and refuses."""
    y, saved = Reshape((-1, 0)).forward(torch.ones(2, 0, 3))
    assert y.shape == (2, 0) and Reshape((-1, 0)).backward(saved, y)[0].shape == (2, 0, 3)


@pytest.mark.parametrize(
    "make", [lambda: Permute((0, 0)), lambda: Mean(()), lambda: Sum(1.5), lambda: Mean(None)]
)
def test_options_that_mean_nothing_are_refused(make):
    with pytest.raises(ValueError):
        make()


def test_a_net_keeps_the_samples_if_all_its_layers_do():
    assert Sequential(Tanh()).keeps_samples and not Sequential(Tanh(), Permute((1, 0))).keeps_samples
