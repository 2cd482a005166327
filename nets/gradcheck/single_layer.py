"""A check of one layer by itself, on the x and dy that it had in the net.

It separates a layer that is wrong from a layer whose dy was already wrong.
"""

import torch
from torch import Tensor

from nets.common.device import generator_state
from nets.gradcheck import differences, reference
from nets.gradcheck.report import Row
from nets.gradcheck.trace import Call
from nets.layers.base import run_backward


def largest(*tensors: Tensor | None) -> float:
    """The largest absolute value in these tensors; 0 without any value."""
    return max((t.abs().max().item() for t in tensors if t is not None and t.numel()), default=0.0)


def check_call(call: Call, sizes: dict[int, float]) -> list[Row]:
    """A row for each of the layer's tensors: output, buffers, parameters and input, on the call's x and dy.

    sizes: id of a parameter -> the size of its gradient if no terms cancel. It is filled in here, so that
    the net around the layer has the same scale.
    """
    layer, (before, after), x, dy = call.layer, call.buffers, call.x, call.dy
    _restore(call, before)
    oracle = reference.differentiate(layer, x, dy)
    pairs: dict[str, tuple[Tensor | None, Tensor]] = {"output": (call.y, oracle.y)}
    pairs |= {k: (after[k], v) for k, v in oracle.buffers.items()}
    pairs |= {k: (call.grads.get(k), g) for k, g in oracle.grads.items()}
    pairs |= {k: (g, torch.full_like(g, float("nan"))) for k, g in call.grads.items() if k not in pairs}
    pairs |= {"input": (call.dx, oracle.dx)}
    scales = _scales(call, sizes)
    largest_value = largest(*(autograd for _, autograd in pairs.values()))

    rows, layers = [], len(layer.leaves())
    for name, (manual, autograd) in pairs.items():
        row = Row.of(call.name, name, manual, autograd, x.dtype, dy.numel(), layers, scales.get(name, 0.0))
        rows.append(row)
        t = x.detach().clone() if name == "input" else layer.params.get(name)
        if t is None or not t.numel() or x.dtype != torch.float64:
            continue
        if manual is None or manual.shape != t.shape:
            continue
        if not row.ok:
            if _is_kink(call, row, t, manual, autograd):
                row.verdict = "kink"
        elif reference.is_own(layer):  # only finite differences can find an error in its forward
            value = _objective(call, dy, name, t)
            row.difference, _ = differences.sampled(value, t, manual, 4, 1e-3 * largest_value)
            if row.difference > differences.TOLERANCE:
                row.verdict = "WRONG"
    _restore(call, after)
    return rows


def _scales(call: Call, sizes: dict[int, float]) -> dict[str, float]:
    """Name of a parameter, or "input" -> the size of its gradient if no terms cancel.

    Terms can cancel, so that a gradient is nearly 0 (a bias before a norm), while its rounding errors have
    the size of the terms. So the size is measured with a random dy of the same root mean square.
    """
    layer, dy = call.layer, call.dy
    _restore(call, call.buffers[0])
    random = torch.randn_like(dy) * (dy.double().square().mean().sqrt() if dy.numel() else 1)
    found = reference.differentiate(layer, call.x, random.to(dy.dtype))
    scales = {name: largest(g) for name, g in {**found.grads, "input": found.dx}.items()}
    for name, t in layer.params.items():
        scales[name] = sizes[id(t)] = max(scales[name], sizes.get(id(t), 0.0))
    return scales


def _objective(call: Call, dy: Tensor, name: str, t: Tensor):
    """A function () -> Σ y·dy of a new forward, for finite differences. t replaces x if name is "input"."""
    x = t if name == "input" else call.x.detach().clone()

    def value() -> float:
        _restore(call, call.buffers[0])
        return (call.layer.forward(x)[0] * dy).sum().item()

    return value


def _is_kink(call: Call, row: Row, t: Tensor, manual: Tensor, autograd: Tensor) -> bool:
    """Whether manual and autograd differ only at kinks, where manual is between the slopes of both sides."""
    _restore(call, call.buffers[0])
    weights = call.dy.abs()
    dx, grads = run_backward(call.layer, call.layer.forward(call.x)[1], weights)
    places = (manual - autograd).abs() > row.tolerance * row.scale
    claimed = dx if row.tensor == "input" else grads[row.tensor]
    if claimed is None:
        return False
    return differences.is_kink(_objective(call, weights, row.tensor, t), t, claimed, places)


def _restore(call: Call, buffers: dict[str, Tensor]):
    """Set the random state to that before the call, and the layer's buffers to these values."""
    generator_state(call.x.device, call.random_state)
    for k, v in call.layer.buffers.items():
        v.copy_(buffers[k])
