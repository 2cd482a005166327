"""Compare the hand-written gradients of a layer or net with autograd and with finite differences."""

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from nets.gradcheck import differences, reference, torch_module
from nets.gradcheck.contract import breaches
from nets.gradcheck.one_input import OneInput, of_net
from nets.gradcheck.report import Report, Row
from nets.gradcheck.single_layer import check_call, largest
from nets.gradcheck.trace import Call, Trace, named_layers
from nets.layers.base import Layer
from nets.layers.containers import Net, Sequential
from nets.losses import Loss

Watch = Callable[[Row, Tensor | None, Tensor], None]


def check(
    layer: Layer,
    x: Tensor,
    dy: Tensor | None = None,
    loss: Loss | None = None,
    target: Tensor | None = None,
    samples: int = 4,
    seed: int = 0,
    contract: bool = True,
    watch: Watch | None = None,
    module: torch.nn.Module | None = None,
) -> Report:
    """Compare the gradients of a layer or net at x with autograd and with finite differences.

    dy        the gradient at its output; random by default
    loss      with target, instead of dy: the loss behind the net
    samples   entries per tensor that are checked by finite differences; only in float64
    contract  whether to check the contract of every layer, too (see `breaches`)
    watch     called with (row, manual, autograd) for every row; manual is None if backward didn't return it
    module    the torch module that from_torch made the net from: the oracle is then its autograd

    Every layer is compared twice: as a part of the net, and by itself on the x and dy that it has in the
    net. A tensor that differs by itself is WRONG. One that differs only in the net is infected. A layer
    without a torch module is its own reference: autograd differentiates its forward, and finite differences
    check that forward.

    A report without any finite number to compare is not ok. The check works on copies, in float64 if x is
    float64. The layer and torch's random state are left unchanged.
    """
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        return _check(layer, x, dy, loss, target, samples, seed, contract, watch, module)


def _check(layer, x, dy, loss, target, samples, seed, contract, watch, module) -> Report:
    layer, untouched, x = copy.deepcopy(layer), copy.deepcopy(layer), x.detach().clone()
    if x.dtype == torch.float64:  # gradients of float32 weights would be rounded to float32
        layer.to(x.dtype)
        untouched.to(x.dtype)
    if loss is None and dy is None:
        torch.manual_seed(seed + 2)  # another seed than x was probably drawn with
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
        report.rows.append(_loss_row(loss, y, dy, target))
    if module is not None:
        torch.manual_seed(seed + 1)
        of_module = torch_module.differentiate(layer, module, x, objective)
        oracle.dx, oracle.grads = of_module.dx, of_module.grads
        report.rows += torch_module.module_rows(untouched, module, x, of_module, seed + 1)

    moved_x = x.detach().clone()
    largest_gradient = largest(dx, *grads.values())

    def difference(name: str, manual: Tensor | None) -> float | None:
        """Finite differences of the whole net, for its input or a parameter: the relative difference."""
        t = moved_x if name == "input" else layer.params[name]
        if not samples or x.dtype != torch.float64 or not t.numel():
            return None
        if manual is None or manual.shape != t.shape:
            return None

        def value():
            torch.manual_seed(seed + 1)
            return objective(layer.forward(moved_x)[0]).item()

        relative, kinks = differences.sampled(value, t, manual, samples, 1e-3 * largest_gradient, seed)
        report.corners += kinks
        return relative

    report.rows += _rows(layer, trace.calls, grads, oracle, difference, watch)
    for row in report.rows:
        if row.verdict == "differs":
            row.verdict = "infected" if report.guilty or report.kinks else "WRONG"
    if contract:
        calls = {call.name: call for call in trace.calls}
        for name, inner in named_layers(untouched):
            if name in calls and not isinstance(inner, Sequential):
                checked = calls[name].layer if isinstance(calls[name].layer, OneInput) else inner
                report.breaches += [f"{name} {breach}" for breach in breaches(checked, calls[name].x, seed)]
    return report


def _loss_row(loss: Loss, y: Tensor, dy: Tensor, target: Tensor) -> Row:
    """The row of the loss's own gradient."""
    z = y.detach().clone().requires_grad_()
    (dz,) = torch.autograd.grad(loss.torch_loss(z, target), z)
    return Row.of(f"loss ({type(loss).__name__})", "dy", dy, dz, y.dtype, terms=y.shape[-1])


def _rows(
    net: Layer,
    calls: list[Call],
    grads: dict[str, Tensor],
    oracle: reference.Answer,
    difference: Callable[[str, Tensor | None], float | None],
    watch: Watch | None,
) -> list[Row]:
    """The rows of all layers, in the order of backward.

    A row is about a tensor of the whole net, unless its layer is wrong by itself: then it shows that.
    A row that differs in the net alone has the verdict "differs".
    """
    rows, wrong, sizes = [], set(), {}
    terms, depth = max(call.dy.numel() for call in calls), len(net.leaves())
    for call, tensors in zip(calls, _tensors_in_net(net, calls, grads, oracle)):
        by_itself = {row.tensor: row for row in check_call(call, sizes)}
        not_ok = {name: row for name, row in by_itself.items() if row.verdict != "ok"}
        own = of_net(call.layer)
        if any(id(inner) in wrong for inner in own.walk() if inner is not own):
            not_ok = {}  # the wrong layer inside explains it
        elif not_ok:
            wrong.add(id(own))
        for tensor, name, manual, autograd in tensors:
            row = not_ok.pop(tensor, None)
            if row is None:
                scale = by_itself[tensor].scale
                row = Row.of(call.name, tensor, manual, autograd, call.x.dtype, terms, depth, scale)
                row.verdict = "ok" if row.ok else "differs"
            if name:
                row.difference = difference(name, manual)
                if row.verdict == "ok" and (row.difference or 0) > differences.TOLERANCE:
                    row.verdict = "differs"
            rows.append(row)
            if watch:
                watch(row, manual, autograd)
        rows += not_ok.values()
    return rows


class NetTensor(NamedTuple):
    """One gradient of the whole net."""

    tensor: str  # the name in its layer
    name: str | None  # the name in the net, None if it is neither a parameter nor the input of the net
    manual: Tensor | None
    autograd: Tensor


def _tensors_in_net(
    net: Layer, calls: list[Call], grads: dict[str, Tensor], oracle: reference.Answer
) -> Iterator[list[NetTensor]]:
    """For each call, its layer's gradients in the whole net.

    A parameter that several layers use belongs to the call of the net, which adds its gradients.
    """
    root, names = calls[-1], {id(t): name for name, t in net.params.items()}
    leaves = [call for call in calls if not isinstance(call.layer, Net)]
    uses = Counter(id(t) for call in leaves for t in call.layer.params.values())
    dxs = {}  # id of a layer -> its dx by autograd, one for each use
    for layer, dx in oracle.inputs:
        dxs.setdefault(id(layer), []).append(dx)
    for call in calls:
        params = names.items() if call is root else ((id(t), k) for k, t in call.layer.params.items())
        is_leaf = not isinstance(call.layer, Net)
        key = id(of_net(call.layer))
        found = [
            NetTensor(k, names[i], grads.get(names[i]), oracle.grads[names[i]])
            for i, k in params
            if i in names and (uses[i] == 1) == is_leaf and (is_leaf or call is root)
        ]
        if call is root:
            found.append(NetTensor("input", "input", call.dx, oracle.dx))
        elif is_leaf and dxs.get(key) and call.dx is not root.dx:
            found.append(NetTensor("input", None, call.dx, dxs[key].pop()))
        yield found
