"""The contract of a layer, called in every way that it allows: what breaks it, in words."""

import copy

import torch
from torch import Tensor

from nets.gradcheck.measure import compare, tolerance
from nets.layers.base import run_backward
from nets.layers.containers import Net


def breaches(layer, x: Tensor, seed: int = 0) -> list[str]:
    """What a layer does that the contract forbids, one short sentence each; [] is as it should be.

    Looked at: neither forward nor backward writes to the layer (but for buffers in training),
    to x, dy or saved; gradients are keyed, shaped and typed as params, dx as x; channels_last
    stays; two backwards are bit-identical; backward is linear in dy, and takes a dy that is
    strided or expanded; a second forward before the first one's backward changes nothing; a
    batch of no samples gives gradients of 0, or a ValueError that says why not.
    """
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        return list(dict.fromkeys(_breaches(copy.deepcopy(layer), x.detach().clone(), seed)))


def _breaches(layer, x, seed):
    def forward(x, draw=seed):
        torch.manual_seed(draw)
        return layer.forward(x)

    def backward(saved, dy):
        dx, grads = run_backward(layer, saved, dy, keep=True)
        return {"dx": dx, **grads} if dx is not None else dict(grads)

    before, given = _state(layer), x.clone()
    y, saved = forward(x)
    if not _same(_state(layer), before):
        yield "writes to itself in forward"
    if not _same(x, given):
        yield "changes x in forward"
    if y.dtype != x.dtype:
        yield f"turns {x.dtype} into {y.dtype}"
    torch.manual_seed(seed + 2)
    dy = torch.randn_like(y)

    before, kept, given_dy = copy.deepcopy((_state(layer), layer.buffers)), copy.deepcopy(saved), dy.clone()
    first = backward(saved, dy)
    if not _same((_state(layer), layer.buffers), before):
        yield "writes to itself in backward"
    for what, now, then in (("x", x, given), ("dy", dy, given_dy), ("saved", saved, kept)):
        if not _same(now, then):
            yield f"changes {what} in backward"
    first = copy.deepcopy(first)  # what it gave may be dy itself
    if not _same(backward(saved, dy), first):
        yield "gives another gradient in a second backward of one forward"

    yield from _forms(first, layer, x)
    yield from _layout(layer, forward, backward, x)
    scale = max((g.double().abs().max().item() for g in first.values() if g.numel()), default=0.0)
    limit = 4 * tolerance(y.dtype, dy.numel(), len(layer.leaves()))

    def differs(a, b):
        return any(compare(a[k], b[k], 1e-3 * scale).relative > limit for k in a.keys() & b.keys())

    for what, other in (("strided", _strided(dy)), ("contiguous", dy.contiguous())):
        if differs(backward(saved, other), first):
            yield f"gives another gradient for the same dy when it is {what}"
    one = torch.randn(len(y), *[1] * (y.dim() - 1), dtype=y.dtype, device=y.device).expand(y.shape)
    if differs(backward(saved, one), backward(saved, one.contiguous())):
        yield "gives another gradient for the same dy when it is expanded"
    other = torch.randn_like(dy)
    sums = backward(saved, other)
    sums = {k: first[k] * 2 - sums[k] for k in first.keys() & sums.keys()}
    if differs(backward(saved, dy * 2 - other), sums):
        yield "is not linear in dy"

    y2, saved2 = forward(x.flip(0), seed + 1)
    if not _same(backward(saved, dy), first):
        yield "forgets its first forward at a second, and so can't stand in two places"
    backward(saved2, dy)
    yield from _no_samples(layer, forward, backward, x)


def _forms(grads, layer, x):
    """Keys, shapes and types."""
    names = layer.params.keys()
    for name in grads.keys() - names - {"dx"}:
        yield f"gives a gradient for {name}, which is no parameter"
    for name in names - grads.keys():
        yield f"gives no gradient for {name}"
    for name, t in {**layer.params, "dx": x}.items():
        g = grads.get(name, t)
        if g.shape != t.shape:
            yield f"gives a gradient of shape {tuple(g.shape)} for {name}, which has {tuple(t.shape)}"
        if g.dtype != t.dtype:
            yield f"gives a gradient of {g.dtype} for {name}, which has {t.dtype}"
        if g.device != t.device:
            yield f"gives a gradient on {g.device} for {name}, which is on {t.device}"


def _layout(layer, forward, backward, x):
    """channels_last in, channels_last out, both ways: a place's channels stay side by side."""
    form = torch.channels_last
    if x.dim() != 4 or not x.numel() or x.contiguous(memory_format=form).is_contiguous():
        return  # one channel, or one place: both layouts are the same
    y, saved = forward(x.contiguous(memory_format=form))
    if y.dim() != 4:
        return
    dx = backward(saved, torch.randn_like(y).contiguous(memory_format=form)).get("dx")
    for what, t in (("y", y), ("dx", dx)):
        if t is not None and t.shape[1] > 1 and t.stride(1) not in (0, 1):
            yield f"loses channels_last in {what}"


def _no_samples(layer, forward, backward, x):
    if x.dim() < 2:
        return
    try:
        y, saved = forward(x[:0])
        found = backward(saved, torch.zeros_like(y))
    except ValueError:
        return  # it says why not: no statistics of nothing
    except Exception as e:
        yield f"can't take a batch of no samples ({type(e).__name__}: {str(e).splitlines()[0]})"
        return
    shapes = {**{k: t.shape for k, t in layer.params.items()}, "dx": x[:0].shape}
    if any(g.shape != shapes.get(k) or g.any() for k, g in found.items()):
        yield "gives a gradient other than 0 for a batch of no samples"


def _strided(t: Tensor) -> Tensor:
    """The same values with gaps between them."""
    wide = torch.empty(*t.shape, 2, dtype=t.dtype, device=t.device)
    return wide[..., 0].copy_(t)


def _state(layer):
    """All that a layer holds, copied, but for buffers, which a forward in training may change."""
    found = []
    for inner in layer.walk():
        for key, value in vars(inner).items():
            if key == "buffers" or (isinstance(inner, Net) and key == "children"):
                continue
            found.append((key, copy.deepcopy(value)))
    return found


def _same(a, b) -> bool:
    """Equal in every bit that counts, NaN being equal to itself."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.nan_to_num(7), b.nan_to_num(7))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    return a is b or callable(a) or bool(a == b)
