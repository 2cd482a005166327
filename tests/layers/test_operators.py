"""The layers of a Graph's arithmetic and shapes, called by themselves: all inputs, broadcasting, sizes."""

import pytest
import torch

from nets.common.errors import BatchError
from nets.layers.activations import Tanh
from nets.layers.arithmetic import Add, Affine, Div, MatMul, Mul, Sub
from nets.layers.containers import Sequential
from nets.layers.joining import Cat
from nets.layers.reduction import Mean, Sum
from nets.layers.reshaping import Expand, Permute, Reshape, Squeeze, Transpose, Unsqueeze
from nets.layers.sizes import Computed, Size
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
    (Expand((Size(0, 1), -1, 5)), ((3, 1), (2, 7))),
    (Permute((2, 0, -2)), ((3, 4, 5),)),
    (Transpose(0, -1), ((3, 4, 5),)),
    (Squeeze(0), ((1, 4),)),
    (Unsqueeze(-1), ((3, 4),)),
    (Mean((0, 2)), ((3, 4, 5),)),
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


REFUSED = [
    (Add(), ((3, 4), (3, 5))),
    (Mul(), ((3, 4), (2, 1, 3))),
    (MatMul(), ((3, 4), (3, 4))),
    (MatMul(), ((3,), (3, 4))),
    (MatMul(), ((2, 3, 4), (3, 4, 5))),
    (Cat(1), ((3, 4), (2, 4))),
    (Reshape((2, -1)), ((3, 3),)),
    (Reshape((-1, -1)), ((3, 3),)),
    (Expand((3, 4)), ((2, 4),)),
    (Expand((4,)), ((2, 4),)),
    (Permute((1, 0)), ((2, 3, 4),)),
    (Transpose(0, 2), ((2, 3),)),
    (Squeeze(2), ((2, 3),)),
    (Unsqueeze(3), ((2, 3),)),
    (Mean(2), ((2, 3),)),
]


@pytest.mark.parametrize(
    "layer, shapes", REFUSED, ids=lambda v: type(v).__name__ if not isinstance(v, tuple) else str(v)
)
def test_shapes_that_do_not_fit_are_refused_in_one_line(layer, shapes):
    with pytest.raises(BatchError, match=type(layer).__name__) as error:
        layer.forward(*(torch.ones(shape) for shape in shapes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "make", [lambda: Permute((0, 0)), lambda: Mean(()), lambda: Sum(1.5), lambda: Mean(None)]
)
def test_options_that_mean_nothing_are_refused(make):
    with pytest.raises(ValueError):
        make()


def test_a_net_keeps_the_samples_if_all_its_layers_do():
    assert Sequential(Tanh()).keeps_samples and not Sequential(Tanh(), Permute((1, 0))).keeps_samples
