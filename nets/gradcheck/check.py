"""Compare a layer's or net's hand-written gradients with autograd's and with finite differences."""

import copy
from collections import Counter

import torch
from torch import Tensor

from nets.gradcheck import differences, reference
from nets.gradcheck import module as torch_module
from nets.gradcheck.alone import alone, largest
from nets.gradcheck.contract import breaches
from nets.gradcheck.report import Report, Row
from nets.gradcheck.trace import Call, Trace, named_layers
from nets.layers.containers import Net, Sequential


def check(
    layer,
    x: Tensor,
    dy: Tensor | None = None,
    loss=None,
    target: Tensor | None = None,
    samples: int = 4,
    seed: int = 0,
    contract: bool = True,
    watch=None,
    module: torch.nn.Module | None = None,
) -> Report:
    """Compare a layer's or net's gradients at x with autograd's and with finite differences.

    dy        the gradient at its output; drawn at random by default
    loss      instead of dy, with target: a loss of nets.losses that ends the net
    samples   entries a tensor that finite differences are made for (in float64; else none)
    contract  also call every layer in all the ways that the contract allows (see `breaches`)
    watch     called with (row, manual, autograd) for every row, the tensors too
    module    what `from_torch` made the net from: then the oracle is autograd of that itself

    Every layer is compared twice: as it stands in the net, and by itself, given the x and dy
    that it was given. What is off by itself is wrong; what else differs is infected. A layer
    of your own needs no twin: autograd then differentiates its forward, and finite differences
    check that. The layer is left as it was, and so are torch's random numbers.
    """
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        return _check(layer, x, dy, loss, target, samples, seed, contract, watch, module)


def _check(layer, x, dy, loss, target, samples, seed, contract, watch, module) -> Report:
    layer, untouched, x = copy.deepcopy(layer), copy.deepcopy(layer), x.detach().clone()
    if loss is None and dy is None:
        torch.manual_seed(seed + 2)  # not the numbers that x is likely to have been drawn as
        dy = torch.randn_like(layer.forward(x)[0])

    with Trace(layer) as trace:
        torch.manual_seed(seed + 1)
        y, saved = layer.forward(x)
        if loss is not None:
            dy = loss(y, target)[1]
        dx, grads = layer.backward(saved, dy)

    def objective(y):
        return (y * dy).sum() if loss is None else loss.torch_loss(y, target)

    torch.manual_seed(seed + 1)
    oracle = reference.differentiate(layer, x, objective=objective)
    report = Report("training" if layer.training else "evaluation", str(x.dtype).removeprefix("torch."))
    if loss is not None:
        report.rows.append(_loss(loss, y, dy, target))
    if module is not None:
        torch.manual_seed(seed + 1)
        theirs = torch_module.differentiate(layer, module, x, objective)
        oracle.dx, oracle.grads = theirs.dx, theirs.grads
        report.rows += torch_module.rows(untouched, module, x, theirs, seed + 1)

    apart = x.detach().clone()
    most = largest(dx, *grads.values())

    def difference(name, manual):
        """Finite differences through the whole net, for its input or a parameter."""
        t = apart if name == "input" else layer.params[name]
        if not samples or x.dtype != torch.float64 or manual is None or manual.shape != t.shape:
            return None

        def value():
            torch.manual_seed(seed + 1)
            return objective(layer.forward(apart)[0]).item()

        gap, kinks = differences.sampled(value, t, manual, samples, 1e-3 * most, seed)
        report.corners += kinks
        return gap

    report.rows += _rows(layer, trace, grads, oracle, difference, watch)
    for row in report.rows:
        if row.verdict == "differs":
            row.verdict = "infected" if report.guilty or report.kinks else "WRONG"
    if contract:
        given = {call.name: call.x for call in trace.calls}
        for name, inner in named_layers(untouched):
            if name in given and not isinstance(inner, Sequential):
                report.breaches += [f"{name} {b}" for b in breaches(inner, given[name], seed)]
    return report


def _loss(loss, y, dy, target) -> Row:
    z = y.detach().clone().requires_grad_()
    (dz,) = torch.autograd.grad(loss.torch_loss(z, target), z)
    return Row.of(f"loss ({type(loss).__name__})", "dy", dy, dz, y.dtype, terms=y.shape[-1])


def _rows(net, trace: Trace, grads: dict, oracle: reference.Answer, difference, watch) -> list[Row]:
    """Each layer's tensors as they stand in the net, or by themselves where the layer is wrong."""
    rows, wrong, sizes = [], set(), {}
    terms, depth = max(call.dy.numel() for call in trace.calls), len(net.leaves())
    for call, standing in zip(trace.calls, _standing(net, trace.calls, grads, oracle)):
        by_itself = {row.tensor: row for row in alone(call, sizes)}
        scales = {name: row.scale for name, row in by_itself.items()}
        off = {name: row for name, row in by_itself.items() if row.verdict != "ok"}
        if any(id(inner) in wrong for inner in call.layer.walk() if inner is not call.layer):
            off = {}  # it has a wrong layer inside, and so can't be right
        elif off:
            wrong.add(id(call.layer))
        for tensor, name, manual, autograd in standing:
            row = off.pop(tensor, None)
            if row is None:
                row = Row.of(call.name, tensor, manual, autograd, call.x.dtype, terms, depth, scales[tensor])
                row.verdict = "ok" if row.ok else "differs"
            if name:
                row.difference = difference(name, manual)
                if row.verdict == "ok" and (row.difference or 0) > differences.TOLERANCE:
                    row.verdict = "differs"
            rows.append(row)
            if watch:
                watch(row, manual, autograd)
        rows += off.values()
    return rows


def _standing(net, calls: list[Call], grads: dict, oracle: reference.Answer):
    """For each call, (tensor, its name in the net or None, manual, autograd) of the whole net.

    A parameter that is used more than once stands with the net, which adds its gradients up.
    """
    root, names = calls[-1], {id(t): name for name, t in net.params.items()}
    leaves = [call for call in calls if not isinstance(call.layer, Net)]
    used = Counter(id(t) for call in leaves for t in call.layer.params.values())
    inside = {}  # a layer's dx by autograd, for each time that it was used
    for layer, dx in oracle.inputs:
        inside.setdefault(id(layer), []).append(dx)
    for call in calls:
        own = names.items() if call is root else ((id(t), k) for k, t in call.layer.params.items())
        once = not isinstance(call.layer, Net)
        found = [
            (k, names[i], grads.get(names[i]), oracle.grads[names[i]])
            for i, k in own
            if (used[i] == 1) == once and (once or call is root)
        ]
        if call is root:
            found.append(("input", "input", call.dx, oracle.dx))
        elif once and inside.get(id(call.layer)) and call.dx is not root.dx:
            found.append(("input", None, call.dx, inside[id(call.layer)].pop()))
        yield found
