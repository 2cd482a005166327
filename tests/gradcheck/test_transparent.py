"""Functions whose forward autograd sees."""

import torch
from torch.autograd import Function

from nets.gradcheck.transparent import registers_a_gradient, transparent, visible


class Wrong(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, dy):
        return dy * 7


class Apart(Function):
    @staticmethod
    def forward(x):
        return x * x, x.argmax()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, dy, _):
        return dy * 7


def slope(f):
    x = torch.tensor([3.0], requires_grad=True)
    y = f(x)
    y = y[0] if isinstance(y, tuple) else y
    return torch.autograd.grad(y, x)[0].item(), registers_a_gradient([y])


def test_a_forward_is_differentiated_in_place_of_its_gradient():
    for f in (lambda x: Wrong.apply(x), lambda x: Apart.apply(x)):
        assert slope(f) == (7, True)
        with transparent():
            assert slope(f) == (6, False)
        assert slope(f) == (7, True)


def test_apply_is_the_same_after_an_exception():
    before = vars(Function)["apply"]
    try:
        with transparent():
            raise ValueError
    except ValueError:
        pass
    assert vars(Function)["apply"] is before


def test_a_function_itself_is_made_visible():
    bound = Wrong.apply
    assert slope(visible(Wrong)) == slope(visible(bound)) == (6, False)
