"""Checks of a layer or form, forward and backward, against torch and autograd."""

import copy

import pytest
import torch

from nets.gradcheck import compare, reference
from nets.kernels import BACKENDS, lower
from nets.layers.base import run_backward
from nets.layers.registry import LAYERS

FORWARD, BACKWARD = 1e-12, 1e-10
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=CUDA)]


def strided(t):
    """The same values with gaps between them: neither contiguous nor channels_last."""
    wide = torch.empty(*t.shape[:-1], t.shape[-1] * 2, dtype=t.dtype, device=t.device)
    return wide[..., ::2].copy_(t)


def layouts(t):
    """A tensor's values in every memory layout that a layer may meet."""
    yield "contiguous", t.contiguous()
    yield "strided", strided(t)
    if t.dim() == 4:
        yield "channels_last", t.contiguous(memory_format=torch.channels_last)


def tensors(saved):
    """Every tensor in what a forward saved."""
    if isinstance(saved, torch.Tensor):
        yield saved
    elif isinstance(saved, (list, tuple)):
        for s in saved:
            yield from tensors(s)


def near(manual, oracle, tolerance, what, floor=0.0):
    relative = compare(manual, oracle, floor)[1]
    assert manual.dtype == oracle.dtype, what
    assert relative <= tolerance, f"{what}: off by {relative:.1e}"


def make_layer(cls, options):
    """A layer of an entry of `examples`: options of its class, or a function that returns it."""
    return options() if callable(options) else cls(**options)


def backends(make, dtype=torch.float64, device="cpu"):
    """The backends in which make() has another form than in those before, "reference" first."""
    kinds = {}
    for backend in BACKENDS:
        made = lower(make(), backend, device, dtype)
        kinds.setdefault(tuple(type(leaf) for leaf in made.leaves()), backend)
    return list(kinds.values())


def name_of(cls, shape, options, backend):
    """An id for pytest."""
    made = "net" if callable(options) else ",".join(f"{k}={v}" for k, v in options.items())
    return f"{cls.__name__}({made})-{'x'.join(map(str, shape))}-{backend}".replace(" ", "")


def subjects(more=(), dtype=torch.float64):
    """Every example of every layer, and `more` of them, in every form: pytest's parameters.

    more: name of a layer -> entries as in its `examples`. Each parameter is (shape of x, a function of the
    device that makes the layer or form, the layer's name, its options).
    """
    found = []
    for name, cls in LAYERS.items():
        for shape, options in [*cls.examples, *dict(more).get(name, [])]:
            for backend in backends(lambda cls=cls, options=options: make_layer(cls, options), dtype):

                def make(device="cpu", cls=cls, options=options, backend=backend):
                    return lower(make_layer(cls, options).to(device), backend, device, dtype)

                id = name_of(cls, shape, options, backend)
                found.append(pytest.param(shape, make, name, options, id=id))
    return found


def check_layer(layer, x, function=None):
    """Compare a layer or form in float64 with its reference module, and with a function.

    function  (x, params, buffers, training) -> y, in torch.nn.functional
    Forward and statistics within 1e-12, gradients within 1e-10, relative, for every layout of x and of dy.
    Also: x, dy, saved, parameters and the layer itself are unchanged, two backwards agree to the bit, and
    without dx the other gradients are the same.
    """
    for layout, xl in layouts(x):
        _check(copy.deepcopy(layer), function, xl, f"x {layout}")


def _check(layer, function, x, what):
    oracles = [_Reference(layer, x)] + ([_Function(layer, function, x)] if function else [])
    before, held = x.clone(), {k: t.clone() for k, t in layer.params.items()}
    attributes = [{k: id(v) for k, v in vars(inner).items()} for inner in layer.walk()]
    torch.manual_seed(1)
    y, saved = layer.forward(x)
    dy = torch.randn(y.shape, dtype=y.dtype, device=y.device)
    kept, buffers = [t.clone() for t in tensors(saved)], {k: b.clone() for k, b in layer.buffers.items()}
    answers = [oracle(dy) for oracle in oracles]
    for layout, dyl in (*layouts(dy), ("expanded", _expanded(y))):
        given = dyl.clone()
        if layout == "expanded":
            answers = [oracle(dyl) for oracle in oracles]
        first = run_backward(layer, saved, dyl, keep=True)
        second = run_backward(layer, saved, dyl, keep=True)
        no_dx = run_backward(layer, saved, dyl, input_grad=False, keep=True)
        assert first[1].keys() == layer.params.keys() == no_dx[1].keys()
        results = {"dx": first[0], **first[1]}
        again = {"dx": second[0], **second[1]}
        # a gradient that is 0 but for rounding is measured against dy
        floor = 1e-3 * dyl.abs().max().item() if dyl.numel() else 0.0
        for oracle_y, oracle_buffers, wanted in answers:
            near(y, oracle_y, FORWARD, f"forward, {what}")
            for name, b in layer.buffers.items():
                near(b, oracle_buffers[name], FORWARD, f"{name}, {what}")
            for name, a in results.items():
                near(a, wanted[name], BACKWARD, f"{name}, {what}, dy {layout}", floor)
        for name, a in results.items():
            assert torch.equal(a, again[name]), f"{name} differs in a second backward, {what}, dy {layout}"
        for name, g in no_dx[1].items():
            assert torch.equal(g, first[1][name]), f"{name} differs without dx, {what}, dy {layout}"
        assert (no_dx[0] is None) == ("input_grad" in layer.backward_options), what
        assert torch.equal(dyl, given), f"dy was changed, {what}"
    assert torch.equal(x, before), f"x was changed, {what}"
    assert all(torch.equal(a, b) for a, b in zip(tensors(saved), kept)), f"saved was changed, {what}"
    assert all(torch.equal(t, held[k]) for k, t in layer.params.items()), f"weights were changed, {what}"
    assert all(torch.equal(t, buffers[k]) for k, t in layer.buffers.items()), f"backward wrote, {what}"
    after = [{k: id(v) for k, v in vars(inner).items()} for inner in layer.walk()]
    assert attributes == after, f"the layer was changed, {what}"


def _expanded(y):
    """One number for many, as the gradient of a sum is."""
    return torch.randn(len(y), *[1] * (y.dim() - 1), dtype=y.dtype, device=y.device).expand(y.shape)


class _Reference:
    """dy -> (y, buffers, gradients) of autograd through the layer's reference module."""

    def __init__(self, layer, x):
        self.layer, self.x = copy.deepcopy(layer), x

    def __call__(self, dy):
        torch.manual_seed(1)
        answer = reference.differentiate(self.layer, self.x, dy)
        return answer.y, answer.buffers, {"dx": answer.dx, **answer.grads}


class _Function:
    """The same of a function of torch.nn.functional."""

    def __init__(self, layer, function, x):
        self.params = {k: v.clone().requires_grad_() for k, v in layer.params.items()}
        self.buffers = {k: v.clone() for k, v in layer.buffers.items()}
        self.x = x.detach().clone().requires_grad_()
        torch.manual_seed(1)
        self.y = function(self.x, self.params, self.buffers, layer.training)

    def __call__(self, dy):
        leaves = {"dx": self.x, **self.params}
        found = torch.autograd.grad(self.y, list(leaves.values()), dy, allow_unused=True, retain_graph=True)
        wanted = {k: torch.zeros_like(t) if g is None else g for (k, t), g in zip(leaves.items(), found)}
        return self.y.detach(), self.buffers, wanted


def check_slopes(layer, x, dy_seed=2, h=1e-6, tolerance=1e-6):
    """Compare a layer's gradients, in float64, with the slopes of Σ y·dy along random directions."""
    torch.manual_seed(1)
    y, saved = copy.deepcopy(layer).forward(x)
    torch.manual_seed(dy_seed)
    dy = torch.randn_like(y)
    dx, grads = run_backward(layer, saved, dy)

    def value():
        torch.manual_seed(1)
        return (copy.deepcopy(layer).forward(x)[0] * dy).sum().item()

    for name, t, g in [("x", x, dx), *((k, t, grads[k]) for k, t in layer.params.items())]:
        for _ in range(3):
            direction, here = torch.randn_like(t), t.clone()
            t.copy_(here + h * direction)
            right = value()
            t.copy_(here - h * direction)
            left = value()
            t.copy_(here)
            slope, claimed = (right - left) / (2 * h), (g * direction).sum().item()
            size = (g.abs() * direction.abs()).sum().item() + dy.abs().sum().item()
            assert abs(slope - claimed) <= tolerance * size, f"{name}: slope {slope}, claimed {claimed}"
