"""A check of one layer by itself, on the x and dy that it had in the net.

It separates a layer that is wrong from a layer whose dy was already wrong.
"""

from typing import Any

import torch
from torch import Tensor

from nets.gradcheck import probes, reference
from nets.gradcheck.conditioning import Doubt
from nets.gradcheck.measure import largest
from nets.gradcheck.report import Row
from nets.gradcheck.trace import Call
from nets.layers.base import run_backward


def check_call(call: Call, sizes: dict[int, float]) -> list[Row]:
    """A row for each of the layer's tensors: output, buffers, parameters and input, on the call's x and dy.

    sizes: id of a parameter -> the size of its gradient if no terms cancel. It is filled in here, so that
    the net around the layer has the same scale.
    """
    layer, after, x, dy = call.layer, call.replay.state(), call.x, call.dy
    call.replay.restore(call.state)
    oracle = reference.differentiate(layer, x, dy)
    pairs: dict[str, tuple[Tensor | None, Tensor]] = {"output": (call.y, oracle.y)}
    pairs |= {k: (call.buffers[1][k], v) for k, v in oracle.buffers.items()}
    pairs |= parameters(layer.params, call.grads, oracle.grads)
    pairs |= {
        k: (g, torch.full_like(g, float("nan"))) for k, g in call.grads.items() if k not in layer.params
    }
    pairs |= {"input": (call.dx, oracle.dx)}
    scales = _scales(call, sizes)
    largest_value = largest(*(autograd for _, autograd in pairs.values()))

    rows, layers, doubt = [], len(layer.leaves()), Doubt(call)
    for name, (manual, autograd) in pairs.items():
        row = Row.of(call.name, name, manual, autograd, x.dtype, dy.numel(), layers, scales.get(name, 0.0))
        rows.append(row)
        if not row.ok and manual is not None and manual.shape == autograd.shape:
            row.allow(doubt.of(name, autograd))
        if name in declared(layer):
            if row.verdict == "WRONG":
                row.verdict = "declared"
            continue
        t = x.detach().clone() if name == "input" else layer.params.get(name)
        if t is None or not t.numel() or x.dtype != torch.float64:
            continue
        if manual is None or manual.shape != t.shape:
            continue
        if not row.ok:
            if _is_kink(call, row, t, manual, autograd):
                row.verdict = "kink"
        elif reference.is_own(layer):  # only finite differences can find an error in its forward
            _difference(call, row, t, manual, 1e-3 * largest_value, doubt)
    call.replay.restore(after)
    return rows


def declared(layer: Any) -> tuple[str, ...]:
    """The tensors whose gradient a layer declares as a surrogate, in its attribute `surrogate`.

    A surrogate isn't the derivative of forward: the straight-through estimator of a rounding, or a factor
    that is held constant. Finite differences can't judge it, and autograd need not agree.
    """
    names = getattr(layer, "surrogate", ())
    return (names,) if isinstance(names, str) else tuple(names)


def parameters(
    params: dict[str, Tensor], manual: dict[str, Tensor], autograd: dict[str, Tensor]
) -> dict[str, tuple[Tensor | None, Tensor]]:
    """Name of a parameter -> both gradients.

    A tensor under several names comes under the first one, with the sum of its gradients: an update adds
    them up.
    """
    names: dict[int, list[str]] = {}
    for name, t in params.items():
        names.setdefault(id(t), []).append(name)
    pairs = {}
    for first, *others in names.values():
        found = [g for name in (first, *others) if (g := manual.get(name)) is not None]
        alike = len(found) == 1 + len(others) and all(g.shape == autograd[first].shape for g in found)
        pairs[first] = (torch.stack(found).sum(0) if others and alike else manual.get(first), autograd[first])
    return pairs


def _scales(call: Call, sizes: dict[int, float]) -> dict[str, float]:
    """Name of a parameter, or "input" -> the size of its gradient if no terms cancel.

    Terms can cancel, so that a gradient is nearly 0 (a bias before a norm), while its rounding errors have
    the size of the terms. So the size is measured with a random dy of the same root mean square.
    """
    layer, dy = call.layer, call.dy
    random = torch.randn_like(dy) * (dy.double().square().mean().sqrt() if dy.numel() else 1)
    call.replay.restore(call.state)
    found = reference.differentiate(layer, call.x, random.to(dy.dtype))
    scales = {name: largest(g) for name, g in {**found.grads, "input": found.dx}.items()}
    for name, t in layer.params.items():
        scales[name] = sizes[id(t)] = max(scales[name], sizes.get(id(t), 0.0))
    return scales


def _terms(call: Call, dy: Tensor, name: str, t: Tensor):
    """A function () -> y·dy of a new forward, for finite differences. t replaces x if name is "input"."""
    x = t if name == "input" else call.x.detach().clone()

    def terms() -> Tensor:
        call.replay.restore(call.state)
        return call.layer.forward(x)[0] * dy

    return terms


def _difference(call: Call, row: Row, t: Tensor, manual: Tensor, min_scale: float, doubt: Doubt):
    """Compare with finite differences at single entries and along a direction that moves all."""
    terms = _terms(call, call.dy, row.tensor, t)
    found = probes.sampled(terms, t, manual, 4, min_scale)
    row.judge(found, doubt.of_backward(row.tensor) if found.excess else 0.0)
    if row.ok and t.numel() > 4:
        found = probes.along(terms, t, manual)
        row.judge(found, doubt.of_backward(row.tensor) if found.excess else 0.0)


def _is_kink(call: Call, row: Row, t: Tensor, manual: Tensor, autograd: Tensor) -> bool:
    """Whether manual and autograd differ only at kinks, where manual is between the slopes of both sides."""
    call.replay.restore(call.state)
    weights = call.dy.abs()
    dx, grads = run_backward(call.layer, call.layer.forward(call.x)[1], weights)
    places = (manual - autograd).abs() > row.tolerance * row.scale
    claimed = dx if row.tensor == "input" else grads[row.tensor]
    if claimed is None:
        return False
    return probes.is_kink(_terms(call, weights, row.tensor, t), t, claimed, places)
