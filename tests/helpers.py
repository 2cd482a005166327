"""One helper checks every layer, forward and backward, against torch and autograd."""

import copy

import pytest
import torch

from nets.gradcheck import compare

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


def check_layer(layer, reference, x, device="cpu", modes=(True, False), draws=False):
    """Compare layer with reference(x, params, buffers, training), written with torch.nn.functional.

    In float64, both modes, every layout of x and of dy. Forward within 1e-12, gradients within
    1e-10, relative. Also: x, dy and saved are unchanged by backward, and two backwards agree.
    """
    layer.to(device, torch.float64)
    for training in modes:
        layer.train(training)
        for layout, xl in layouts(x.to(device, torch.float64)):
            _check(copy.deepcopy(layer), reference, xl, f"training={training}, x {layout}", draws)


def _check(layer, reference, x, what, draws):
    if draws:
        torch.manual_seed(1)
    params = {k: v.clone().requires_grad_() for k, v in layer.params.items()}
    buffers = {k: v.clone() for k, v in layer.buffers.items()}
    oracle_x = x.detach().clone().requires_grad_()
    oracle_y = reference(oracle_x, params, buffers, layer.training)

    if draws:
        torch.manual_seed(1)
    before = x.clone()
    y, saved = layer.forward(x)
    near(y, oracle_y, FORWARD, f"forward, {what}")
    for name, b in layer.buffers.items():
        near(b, buffers[name], FORWARD, f"{name}, {what}")

    dy = torch.randn(y.shape, dtype=y.dtype, device=y.device)

    def oracle_gradients(dy):
        wanted = [oracle_x, *params.values()]
        found = torch.autograd.grad(oracle_y, wanted, dy, allow_unused=True, retain_graph=True)
        return [torch.zeros_like(w) if g is None else g for g, w in zip(found, wanted)]

    oracle = oracle_gradients(dy)
    kept = [t.clone() for t in tensors(saved)]
    for layout, dyl in (*layouts(dy), ("expanded", None)):
        if dyl is None:  # one number for many, as the gradient of a sum is
            dyl = torch.randn(len(y), *[1] * (y.dim() - 1), dtype=y.dtype, device=y.device).expand(y.shape)
            oracle = oracle_gradients(dyl)
        given = dyl.clone()
        first, second = layer.backward(saved, dyl), layer.backward(saved, dyl)
        assert first[1].keys() == params.keys()
        results = [first[0], *(first[1][k] for k in params)]
        again = [second[0], *(second[1][k] for k in params)]
        # a gradient that is 0 but for rounding is measured against dy
        floor = 1e-3 * dyl.abs().max().item() if dyl.numel() else 0.0
        for name, a, b, c in zip(["dx", *params], results, again, oracle):
            near(a, c, BACKWARD, f"{name}, {what}, dy {layout}", floor)
            assert torch.equal(a, b), f"{name} differs in a second backward, {what}, dy {layout}"
        assert torch.equal(dyl, given), f"dy was changed, {what}"
    assert torch.equal(x, before), f"x was changed, {what}"
    assert all(torch.equal(a, b) for a, b in zip(tensors(saved), kept)), f"saved was changed, {what}"
