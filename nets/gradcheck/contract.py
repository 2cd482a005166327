"""The contract of a layer: calls forward and backward in all allowed ways, and describes the breaches."""

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nets.common.errors import describe
from nets.gradcheck.measure import compare, largest, tolerance
from nets.gradcheck.one_input import OneInput
from nets.gradcheck.replay import Replay, seeded
from nets.gradcheck.replica import replica, same
from nets.gradcheck.trace import pair
from nets.layers.base import Layer, run_backward


class Breach(str):
    """A sentence that says how the contract is broken.

    minor: the rule concerns no gradient's value on an ordinary batch (memory layout, an expanded dy, a batch
    without samples, the dtype of a weight's gradient).
    """

    minor = False


class Minor(Breach):
    """A breach of a rule that concerns no gradient's value on an ordinary batch."""

    minor = True


def breaches(layer: Layer, x: Tensor, seed: int = 0) -> list[Breach]:
    """The ways in which a layer breaks the contract on x, a short sentence each. [] if it doesn't.

    Checked are these rules:

    - forward and backward don't write to the layer (except to buffers in training), to x, dy or saved
    - grads have the keys, shapes, dtypes and devices of params, and dx has those of x
    - if x is channels_last, y and dx are, too
    - two backwards of one forward are bit-identical
    - backward is linear in dy, and works for a strided or expanded dy
    - a second forward doesn't change the backward of the first
    - a batch without samples gives gradients of 0, or raises a ValueError

    A layer's random numbers are drawn again for each forward, its own generators' too.
    """
    with seeded(x.device, seed + 2):  # another seed than x was probably drawn with
        found = list(dict.fromkeys(_breaches(replica(layer), x.detach().clone(), seed)))
    return [breach if isinstance(breach, Breach) else Breach(breach) for breach in found]


def _breaches(layer: Layer, x: Tensor, seed: int) -> Iterator[str]:
    name, replay = type(layer).__name__, Replay(layer, x.device)
    start = replay.state()

    def forward(x, again=True):
        if again:
            replay.restore(start, buffers=False)
        return pair(name, "forward", "(y, saved)", layer.forward(x))

    def backward(saved, dy):
        dx, grads = pair(name, "backward", "(dx, grads)", run_backward(layer, saved, dy, keep=True))
        return {"dx": dx, **grads} if dx is not None else dict(grads)

    before, given_x = replica(layer), x.clone()
    y, saved = forward(x)
    if not same(layer, before):
        yield "writes to itself in forward"
    if not same(x, given_x):
        yield "changes x in forward"
        return  # what follows would compare the results for different x
    if y.dtype != x.dtype:
        yield f"turns {x.dtype} into {y.dtype}"
    dy = torch.where(y.isfinite(), torch.randn_like(y), 0)

    before, given_dy = replica(layer), dy.clone()
    given_saved, buffers = replica(saved), replay.state()[-1]
    first = backward(saved, dy)
    if not same(layer, before) or not same(replay.state()[-1], buffers):
        yield "writes to itself in backward"
    changed = False
    for name, now, given in (("x", x, given_x), ("dy", dy, given_dy), ("saved", saved, given_saved)):
        if not same(now, given):
            changed = True
            yield f"changes {name} in backward"
    first = copy.deepcopy(first)  # a result can be dy itself
    yield from _shapes_and_types(first, layer, x)
    if changed:
        return  # one mistake, one line: the others follow from it
    if not same(backward(saved, dy), first):
        yield "gives another gradient in a second backward of one forward"
        return
    yield from _layout(layer, forward, backward, x)
    yield from _other_dy(layer, forward, backward, x, saved, dy, first)
    yield from _no_samples(layer, forward, backward, x)


def _other_dy(layer, forward, backward, x, saved, dy, first) -> Iterator[str]:
    """Breaches of the rules for dy of other layouts and values, and for a second forward."""
    scale = {k: largest(g[g.isfinite()].double()) for k, g in first.items()}
    overall = max(scale.values(), default=0.0)
    limit = 4 * tolerance(dy.dtype, dy.numel(), len(layer.leaves()))

    def differs(a, b):
        return any(
            compare(a[k], b[k], max(scale[k], 1e-3 * overall)).relative > limit for k in a.keys() & b.keys()
        )

    for form, same_dy in (("strided", _strided(dy)), ("contiguous", dy.contiguous())):
        if differs(backward(saved, same_dy), first):
            yield f"gives another gradient for the same dy when it is {form}"
    expanded = torch.randn(len(dy), *[1] * (dy.dim() - 1), dtype=dy.dtype, device=dy.device).expand(dy.shape)
    if differs(backward(saved, expanded), backward(saved, expanded.contiguous())):
        yield Minor("gives another gradient for the same dy when it is expanded")
    if not _linear(backward, saved, dy, first, limit, overall):
        yield "is not linear in dy"

    _, saved2 = forward(x.flip(0), again=False)
    if not same(backward(saved, dy), first):
        yield "forgets its first forward at a second, and so can't be used twice in a net"
    backward(saved2, dy)


def _linear(backward, saved, dy, first, limit: float, overall: float) -> bool:
    """Whether backward(2·dy − other) is 2·backward(dy) − backward(other).

    Where terms cancel, rounding is large beside the result. So the difference is measured against that of a
    dy that is moved by a few roundings, too.
    """
    other_dy = torch.where(dy == 0, 0, torch.randn_like(dy))
    mixed = dy * 2 - other_dy
    second, both = backward(saved, other_dy), backward(saved, mixed)
    eps = torch.finfo(dy.dtype).eps
    nudged = [backward(saved, mixed * (1 + 4 * eps * torch.randn_like(mixed))) for _ in range(3)]
    for k in first.keys() & second.keys() & both.keys():
        expected = first[k] * 2 - second[k]
        gap = compare(both[k], expected, 1e-3 * overall)
        noise = max(compare(n[k], both[k]).absolute for n in nudged if k in n)
        if gap.relative > limit and not gap.absolute <= 8 * noise:
            return False
    return True


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
            kind = Minor if name != "dx" and g.dtype == x.dtype else Breach  # an update converts it
            yield kind(f"gives a gradient of {g.dtype} for {name}, which has {t.dtype}")
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
    if y.dim() != 4 or y.shape[2:].numel() == 1:  # a dy of one place is of both layouts
        return
    dx = backward(saved, torch.randn_like(y).contiguous(memory_format=channels_last)).get("dx")
    for name, t in (("y", y), ("dx", dx)):
        if t is not None and t.shape[1] > 1 and t.stride(1) not in (0, 1):
            yield Minor(f"loses channels_last in {name}")


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
        yield Minor(f"can't take a batch of no samples ({describe(e)})")
        return
    shapes = {**{k: t.shape for k, t in layer.params.items()}, "dx": x[:0].shape}
    if any(g.shape != shapes.get(k) or g.any() for k, g in found.items()):
        yield Minor("gives a gradient other than 0 for a batch of no samples")


def _strided(t: Tensor) -> Tensor:
    """The same values with gaps between them in memory."""
    with_gaps = torch.empty(*t.shape, 2, dtype=t.dtype, device=t.device)
    return with_gaps[..., 0].copy_(t)
