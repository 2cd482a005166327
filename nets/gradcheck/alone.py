"""One layer by itself, given what it was given in the net: is it off, or was its input?"""

import torch

from nets.common.device import generator_state
from nets.gradcheck import differences, reference
from nets.gradcheck.report import Row
from nets.gradcheck.trace import Call
from nets.layers.base import run_backward


def largest(*tensors) -> float:
    return max((t.abs().max().item() for t in tensors if t is not None and t.numel()), default=0.0)


def alone(call: Call, sizes: dict) -> list[Row]:
    """A layer given what it was given: its output, statistics, gradients and dx.

    sizes: id of a parameter -> how large its gradient is if nothing cancels, for nets around it.
    """
    layer, (before, after) = call.layer, call.buffers
    _restore(call, before)
    oracle = reference.differentiate(layer, call.x, call.dy)
    pairs = {"output": (call.y, oracle.y)}
    pairs |= {k: (after[k], v) for k, v in oracle.buffers.items()}
    pairs |= {k: (call.grads.get(k), g) for k, g in oracle.grads.items()}
    pairs |= {k: (g, torch.full_like(g, float("nan"))) for k, g in call.grads.items() if k not in pairs}
    pairs |= {"input": (call.dx, oracle.dx)}
    # What a dy of this size gives if nothing cancels. By the sums' cancelling, gradients can be
    # near 0 (a bias before a norm), and their roundings are still of the terms' size.
    _restore(call, before)
    random = torch.randn_like(call.dy) * (call.dy.double().square().mean().sqrt() if call.dy.numel() else 1)
    usual = reference.differentiate(layer, call.x, random.to(call.dy.dtype))
    usual = {k: largest(g) for k, g in {**usual.grads, "input": usual.dx}.items()}
    for name, t in layer.params.items():
        usual[name] = sizes[id(t)] = max(usual[name], sizes.get(id(t), 0.0))
    most = largest(*(a for _, a in pairs.values()))
    x = call.x.detach().clone()

    def again(dy):
        """The layer once more, for finite differences: () -> Σ y·dy."""

        def value():
            _restore(call, before)
            return (layer.forward(x)[0] * dy).sum().item()

        return value

    def kink(name, t, manual, autograd):
        _restore(call, before)
        weights = call.dy.abs()
        dx, grads = run_backward(layer, layer.forward(x)[1], weights)
        places = (manual - autograd).abs() > row.tolerance * row.scale
        return differences.is_kink(again(weights), t, dx if name == "input" else grads[name], places)

    rows, places = [], len(layer.leaves())
    for name, (manual, autograd) in pairs.items():
        row = Row.of(
            call.name, name, manual, autograd, x.dtype, call.dy.numel(), places, usual.get(name, 0.0)
        )
        rows.append(row)
        t = x if name == "input" else layer.params.get(name)
        if t is None or manual is None or manual.shape != t.shape or x.dtype != torch.float64:
            continue
        if not row.ok:
            if kink(name, t, manual, autograd):
                row.verdict = "kink"
        elif reference.is_own(layer):  # nothing but differences would see an error in its forward
            row.difference, _ = differences.sampled(again(call.dy), t, manual, 4, 1e-3 * most)
            if row.difference > differences.TOLERANCE:
                row.verdict = "WRONG"
    _restore(call, after)
    return rows


def _restore(call: Call, buffers: dict):
    """The random numbers as they were before the call, and the layer's statistics."""
    generator_state(call.x.device, call.draws)
    for k, v in call.layer.buffers.items():
        v.copy_(buffers[k])
