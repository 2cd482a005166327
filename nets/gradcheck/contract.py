"""The contract of a layer: calls forward and backward in all allowed ways, and describes the breaches."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from nets.gradcheck.measure import compare, tolerance
from nets.gradcheck.one_input import OneInput
from nets.layers.base import Layer, run_backward
from nets.layers.containers import Net


def breaches(layer: Layer, x: Tensor, seed: int = 0) -> list[str]:
    """The ways in which a layer breaks the contract on x, a short sentence each. [] if it doesn't.

    Checked are these rules:

    - forward and backward don't write to the layer (except to buffers in training), to x, dy or saved
    - grads have the keys, shapes, dtypes and devices of params, and dx has those of x
    - if x is channels_last, y and dx are, too
    - two backwards of one forward are bit-identical
    - backward is linear in dy, and works for a strided or expanded dy
    - a second forward doesn't change the backward of the first
    - a batch without samples gives gradients of 0, or raises a ValueError
    """
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        return list(dict.fromkeys(_breaches(copy.deepcopy(layer), x.detach().clone(), seed)))


def _breaches(layer: Layer, x: Tensor, seed: int) -> Iterator[str]:
    def forward(x, seed=seed):
        torch.manual_seed(seed)
        return layer.forward(x)

    def backward(saved, dy):
        dx, grads = run_backward(layer, saved, dy, keep=True)
        return {"dx": dx, **grads} if dx is not None else dict(grads)

    before, given_x = _state(layer), x.clone()
    y, saved = forward(x)
    if not _same(_state(layer), before):
        yield "writes to itself in forward"
    if not _same(x, given_x):
        yield "changes x in forward"
    if y.dtype != x.dtype:
        yield f"turns {x.dtype} into {y.dtype}"
    torch.manual_seed(seed + 2)
    dy = torch.randn_like(y)

    before, given_dy = copy.deepcopy((_state(layer), layer.buffers)), dy.clone()
    given_saved = copy.deepcopy(saved)
    first = backward(saved, dy)
    if not _same((_state(layer), layer.buffers), before):
        yield "writes to itself in backward"
    for name, now, given in (("x", x, given_x), ("dy", dy, given_dy), ("saved", saved, given_saved)):
        if not _same(now, given):
            yield f"changes {name} in backward"
    first = copy.deepcopy(first)  # a result can be dy itself
    if not _same(backward(saved, dy), first):
        yield "gives another gradient in a second backward of one forward"

    yield from _shapes_and_types(first, layer, x)
    yield from _layout(layer, forward, backward, x)
    scale = max((g.double().abs().max().item() for g in first.values() if g.numel()), default=0.0)
    limit = 4 * tolerance(y.dtype, dy.numel(), len(layer.leaves()))

    def differs(a, b):
        return any(compare(a[k], b[k], 1e-3 * scale).relative > limit for k in a.keys() & b.keys())

    for form, same_dy in (("strided", _strided(dy)), ("contiguous", dy.contiguous())):
        if differs(backward(saved, same_dy), first):
            yield f"gives another gradient for the same dy when it is {form}"
    expanded = torch.randn(len(y), *[1] * (y.dim() - 1), dtype=y.dtype, device=y.device).expand(y.shape)
    if differs(backward(saved, expanded), backward(saved, expanded.contiguous())):
        yield "gives another gradient for the same dy when it is expanded"
    other_dy = torch.randn_like(dy)
    second = backward(saved, other_dy)
    expected = {k: first[k] * 2 - second[k] for k in first.keys() & second.keys()}
    if differs(backward(saved, dy * 2 - other_dy), expected):
        yield "is not linear in dy"

    _, saved2 = forward(x.flip(0), seed + 1)
    if not _same(backward(saved, dy), first):
        yield "forgets its first forward at a second, and so can't be used twice in a net"
    backward(saved2, dy)
    yield from _no_samples(layer, forward, backward, x)


def _shapes_and_types(grads: dict[str, Tensor], layer: Layer, x: Tensor) -> Iterator[str]:
    """Breaches in the keys, shapes, dtypes and devices of the gradients."""
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


def _layout(layer: Layer, forward: Callable, backward: Callable, x: Tensor) -> Iterator[str]:
    """Breaches of the rule that y and dx are channels_last if x and dy are."""
    channels_last = torch.channels_last
    if (
        x.dim() != 4
        or not layer.keeps_samples
        or not x.numel()
        or x.contiguous(memory_format=channels_last).is_contiguous()
    ):
        return  # with one channel or one place, both layouts are the same
    y, saved = forward(x.contiguous(memory_format=channels_last))
    if y.dim() != 4:
        return
    dx = backward(saved, torch.randn_like(y).contiguous(memory_format=channels_last)).get("dx")
    for name, t in (("y", y), ("dx", dx)):
        if t is not None and t.shape[1] > 1 and t.stride(1) not in (0, 1):
            yield f"loses channels_last in {name}"


def _no_samples(layer: Layer, forward: Callable, backward: Callable, x: Tensor) -> Iterator[str]:
    """Breaches of the rule for a batch without samples."""
    if x.dim() < 2 or isinstance(layer, OneInput):  # its other inputs have samples
        return
    try:
        y, saved = forward(x[:0])
        found = backward(saved, torch.zeros_like(y))
    except ValueError:
        return  # allowed: BatchNorm has no statistics without samples
    except Exception as e:
        yield f"can't take a batch of no samples ({type(e).__name__}: {str(e).splitlines()[0]})"
        return
    shapes = {**{k: t.shape for k, t in layer.params.items()}, "dx": x[:0].shape}
    if any(g.shape != shapes.get(k) or g.any() for k, g in found.items()):
        yield "gives a gradient other than 0 for a batch of no samples"


def _strided(t: Tensor) -> Tensor:
    """The same values with gaps between them in memory."""
    with_gaps = torch.empty(*t.shape, 2, dtype=t.dtype, device=t.device)
    return with_gaps[..., 0].copy_(t)


def _state(layer: Layer) -> list[tuple[str, Any]]:
    """Copies of all attributes of a layer and the layers inside, except buffers, which forward may change."""
    found = []
    for inner in layer.walk():
        for key, value in vars(inner).items():
            if key == "buffers" or (isinstance(inner, Net) and key == "children"):
                continue
            found.append((key, copy.deepcopy(value)))
    return found


def _same(a, b) -> bool:
    """Whether two values are equal, where NaN equals NaN. Functions count as equal."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.nan_to_num(7), b.nan_to_num(7))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    return a is b or callable(a) or bool(a == b)
