"""Properties that hold for every layer, form and loss, whatever the input: generated cases.

The cases are the same every time: 25 each, 200 with --deep. To search anew, with 2,000:
    python -m pytest tests/layers/test_properties.py --hypothesis-profile=search
Add --hypothesis-seed=N to make one such search repeatable; a failure prints what replays it alone.
"""

import pytest
import torch
from hypothesis import given, settings

from nets.layers.base import run_backward, sum_dtype
from tests.helpers import tensors
from tests.strategies.layers import KINDS, Case, cases
from tests.strategies.losses import LOSSES, LossCase, loss_cases

# Beside a few times autograd's own error: how many roundings of the largest number a result may be off
ROUNDINGS = {torch.float64: 1e4, torch.float32: 200, torch.bfloat16: 4}

# torch's own slope at NaN is another in a vector of numbers than in the numbers left over
NAN_DIFFERS = ("ReLU6", "Hardsigmoid", "Hardswish", "ELU")


@pytest.mark.parametrize("name", KINDS)
def test_layer(name, held):
    @given(cases(name))
    def holds(case):
        check_layer(case)
        held[name] += 1

    holds()
    assert held[name] >= min(settings.default.max_examples, 200)


@pytest.mark.parametrize("name", LOSSES)
def test_loss(name, held):
    @given(loss_cases(name))
    def holds(case):
        check_loss(case)
        held[name] += 1

    holds()
    assert held[name] >= min(settings.default.max_examples, 200)


def check_layer(case: Case):
    layer, fresh, x = case.layer(), case.layer(), case.numbers(case.shape, case.values, case.layout, 1)
    x_given = x.clone()
    y, saved = forward(case, layer, x)
    dy = case.numbers(y.shape, case.dy_values, case.dy_layout, 2)
    dy_given, saved_given = dy.clone(), [t.clone() for t in tensors(saved)]
    buffers = {k: b.clone() for k, b in layer.buffers.items()}
    mine = gradients(layer, saved, dy)

    # what autograd finds, in the same type, and in float64
    oracle = autograd(case, fresh, x, dy, case.dtype)
    truth = oracle if case.dtype == torch.float64 else autograd(case, fresh, x, dy, torch.float64)
    pointwise = dy.double().abs().nan_to_num(0, 0) if KINDS[case.kind].pointwise else None
    compared = {"y": y} | buffers | mine
    if case.kind in NAN_DIFFERS:
        for found in (compared, oracle, truth):
            found["dx"] = found["dx"].masked_fill(x.isnan(), 0)
    for name, a in compared.items():
        floor = roundable(name, x, dy)
        near(name, a, oracle[name], truth[name], case.dtype, floor, pointwise if name == "dx" else None)

    if case.kind != "Linear" and all(t.dim() == 4 and rows_of_channels(t) for t in (x, dy)):
        assert mine["dx"].stride(1) == 1, "channels_last is lost"

    # another batch in between changes nothing, and gets what it gets alone
    shape = (case.shape[0] + 1, *case.shape[1:]) if len(case.shape) > 1 else case.shape
    other = case.numbers(shape, "plain", "contiguous", 3)
    other_y, other_saved = forward(case, layer, other)
    other_dy = case.numbers(other_y.shape, "plain", "contiguous", 4)
    between = gradients(layer, other_saved, other_dy)
    all_same(gradients(layer, saved, dy), mine)
    alone_y, alone_saved = forward(case, fresh, other)
    all_same(gradients(fresh, alone_saved, other_dy) | {"y": alone_y}, between | {"y": other_y})

    # without dx the rest is the same
    without = gradients(layer, saved, dy, input_grad=False)
    all_same(without, mine | ({"dx": None} if "input_grad" in layer.backward_options else {}))

    # nothing that was given was written to
    assert same(x, x_given) and same(dy, dy_given)
    assert all(same(a, b) for a, b in zip(tensors(saved), saved_given))
    all_same(layer.params, case.layer().params)
    if not case.training:
        all_same(layer.buffers, case.layer().buffers)

    # backward is linear in dy
    if case.dtype == torch.float64:
        second = case.numbers(y.shape, "plain", "contiguous", 5)
        alone, both = gradients(layer, saved, second), gradients(layer, saved, 0.5 * dy - 3 * second)
        for name, a in both.items():
            want = 0.5 * mine[name] - 3 * alone[name]
            if want.isfinite().all() and dy.isfinite().all():
                floor = max(largest(mine[name]), roundable(name, x, dy), roundable(name, x, second))
                near(name, a, want, want, case.dtype, floor)


def check_loss(case: LossCase):
    z, target = case.tensors()
    z_given, target_given = z.clone(), target.clone()
    value, dz = case.loss()(z, target)
    found = []
    for dtype in (case.dtype, torch.float64):
        leaf = z.detach().to(dtype).requires_grad_()
        wide = leaf.to(sum_dtype(leaf))
        want = LOSSES[case.kind].reference(wide, target, **case.options)
        found.append((want.detach(), *torch.autograd.grad(want, leaf)))
    oracle, truth = found
    near("value", value, oracle[0], truth[0], oracle[0].dtype, largest(z))
    near("dz", dz, oracle[1], truth[1], case.dtype, 1 / max(1, len(z)))
    again = case.loss()(z, target)
    assert same(value, again[0]) and same(dz, again[1])
    assert same(z, z_given) and same(target, target_given)


def forward(case, layer, x):
    torch.default_generator.manual_seed(case.seed)  # for Dropout; torch.manual_seed takes a millisecond
    return layer.forward(x)


def gradients(layer, saved, dy, input_grad=True):
    """One backward, as a dictionary whose keys, shapes and types are right."""
    dx, grads = run_backward(layer, saved, dy, input_grad, keep=True)
    params = layer.params
    assert grads.keys() == params.keys()
    for name, g in grads.items():
        assert (g.shape, g.dtype) == (params[name].shape, params[name].dtype), name
    return {"dx": dx, **grads}


def autograd(case: Case, layer, x, dy, dtype):
    """The same by torch.nn.functional and autograd, reckoned in dtype, with y and the buffers."""
    wide = torch.promote_types(dtype, torch.float32)
    params = {k: t.to(wide, copy=True).requires_grad_() for k, t in layer.params.items()}
    buffers = {k: t.to(wide, copy=True) for k, t in layer.buffers.items()}
    x = x.detach().to(dtype).requires_grad_()  # in the layer's own layout: torch rounds each its own way
    torch.default_generator.manual_seed(case.seed)
    y = KINDS[case.kind].reference(x, params, buffers, case.training, **case.options)
    found = torch.autograd.grad(y, [x, *params.values()], dy.to(dtype), allow_unused=True)
    found = [torch.zeros_like(t) if g is None else g for g, t in zip(found, [x, *params.values()])]
    return {"y": y.detach(), **buffers, "dx": found[0], **dict(zip(params, found[1:]))}


def same(a, b):
    """Equal bit for bit, but that a NaN is a NaN and −0 is 0."""
    return a.dtype == b.dtype and a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def all_same(one, other):
    assert one.keys() == other.keys()
    for name, a in one.items():
        assert (a is None and other[name] is None) or same(a, other[name]), name


def copied(tensors):
    return {k: t.clone() for k, t in tensors.items()}


def roundable(name, x, dy):
    """A size to round by at least, however much is cancelled: a weight's gradient adds up dy·x."""
    if name == "y":
        return largest(x)
    return largest(dy) * (1.0 if name == "dx" else max(1.0, largest(x)))


def rows_of_channels(t):
    """Is t in memory channels_last, and not also otherwise?"""
    return t.is_contiguous(memory_format=torch.channels_last) and not t.is_contiguous()


def largest(t):
    """The largest finite number's size."""
    return t[t.isfinite()].double().abs().max().item() if t.isfinite().any() else 0.0


def near(name, mine, oracle, truth, dtype, floor, each=None):
    """mine is about as near to the truth as autograd is, and NaN or infinite where autograd is.

    dtype  in which it was reckoned
    floor  a number to round by at least, for results that are small by cancellation
    each   the same for each entry, which is then measured by itself
    """
    assert (mine.dtype, mine.shape) == (oracle.dtype, oracle.shape), name
    eps, roundings = torch.finfo(dtype).eps, ROUNDINGS[dtype]
    a, o, t = mine.double(), oracle.double(), truth.double()
    # autograd itself isn't of one mind: 0·∞ in the padding is NaN in float64, and left out in float32;
    # and in bfloat16 the library's convolutions can make NaN of ∞
    exact = {"NaN": torch.isnan, "∞": torch.isposinf, "−∞": torch.isneginf}
    for what, of in exact.items() if dtype != torch.bfloat16 else [("NaN or ∞", lambda t: ~t.isfinite())]:
        assert (of(a) | ~(of(o) & of(t))).all(), f"{name} lacks {what}"
    finite = o.isfinite() & t.isfinite()
    assert a[finite].isfinite().all(), f"{name} is not finite"
    if finite.any():
        error, its = ((a - t)[finite].abs(), (o - t)[finite].abs())
        if each is None:
            limit = 4 * its.max() + roundings * eps * max(largest(t), floor)
        else:
            limit = 4 * its + roundings * eps * (t.abs() + each)[finite]
        tiny = torch.finfo(dtype).smallest_normal
        assert (error <= limit + tiny).all(), f"{name} is off by {(error - limit).max():.1e} too much"
