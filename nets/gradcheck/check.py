"""Compare the hand-written gradients of a layer or net with autograd and with finite differences."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nets.common.errors import describe
from nets.gradcheck import probes, reference, torch_module, unjudged
from nets.gradcheck.conditioning import Doubt
from nets.gradcheck.contract import breaches
from nets.gradcheck.functions import check_function
from nets.gradcheck.loss import loss_row, value
from nets.gradcheck.measure import largest
from nets.gradcheck.one_input import OneInput, of_net
from nets.gradcheck.replay import Replay, random_dys, seeded
from nets.gradcheck.replica import replica
from nets.gradcheck.report import Report, Row
from nets.gradcheck.single_layer import check_call, declared, parameters
from nets.gradcheck.trace import Call, Trace, named_layers, pair
from nets.layers.base import Layer
from nets.layers.containers import Net, Sequential
from nets.losses import Loss

Watch = Callable[[Row, Tensor | None, Tensor], None]
Difference = Callable[[str, Tensor | None], probes.Found | None]


def check(f: Any, *inputs: Any, **options: Any) -> Report:
    """Compare a hand-written gradient with autograd and with finite differences.

    f        a layer or net (see `check_net`), or anything else with a gradient (see `check_function`): a
             torch.autograd.Function, a custom operator, a function, a module, a pair (forward, backward)
    inputs   of f
    options  those of the one or the other
    """
    return (check_net if isinstance(f, Layer) else check_function)(f, *inputs, **options)


def check_net(
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
    strict: bool = False,
) -> Report:
    """Compare the gradients of a layer or net at x with autograd and with finite differences.

    dy        the gradient at its output; random by default
    loss      with target, instead of dy: the loss behind the net
    samples   entries per tensor that are checked by finite differences; only in float64
    contract  whether to check the contract of every layer, too (see `breaches`)
    watch     called with (row, manual, autograd) for every row; manual is None if backward didn't return it
    module    the torch module that from_torch made the net from: the oracle is then its autograd
    strict    whether the rules of the contract that concern no gradient's value are errors, not notes

    Every layer is compared twice: as a part of the net, and by itself on the x and dy that it has in the
    net. A tensor that differs by itself is WRONG. One that differs only in the net is infected. A layer
    without a torch module is its own reference: autograd differentiates its forward, and finite differences
    check that forward.

    A tensor without a finite number to compare is "not checked", and the report isn't ok. The check works on
    copies, in float64 if x is float64. The layer and all random states are left unchanged.
    """
    report = Report("training" if layer.training else "evaluation", str(x.dtype).removeprefix("torch."))
    with seeded(x.device, seed + 1):
        try:
            run = _run(layer, x, dy, loss, target, seed)
            report.unchecked = run.not_judged()
            if contract:
                _contract(report, run, seed, strict)
            if not report.unchecked:
                _judge(report, run, loss, target, samples, seed, watch, module)
        except (SystemExit, RuntimeError, TypeError) as e:
            report.unchecked = unjudged.reason(e, report.dtype)
            if report.breaches and isinstance(e, Exception):
                # autograd refuses a forward that writes to what it was given
                report.unchecked = report.unchecked or describe(e)
            if not report.unchecked:
                raise
    return report


@dataclass
class Run:
    """One forward and backward of copies of a layer and its input, with everything needed to repeat it."""

    layer: Layer
    untouched: Layer  # another copy
    x: Tensor
    y: Tensor
    dy: Tensor
    dx: Tensor | None
    grads: dict[str, Tensor]
    calls: list[Call]
    replay: Replay
    start: tuple  # of replay

    def not_judged(self) -> str:
        """Why no number of this run can be judged, or ""."""
        if why := unjudged.without_elements([self.y]):
            return why
        self.replay.restore(self.start)
        again, _ = self.layer.forward(self.x)
        self.replay.restore(self.start)
        return unjudged.not_repeated([self.y], [again])


def _run(layer, x, dy, loss, target, seed) -> Run:
    x = x.detach().clone()
    wide = x.dtype if x.dtype == torch.float64 else None  # float32 weights would round their gradients
    layer, untouched = replica(layer, wide), replica(layer, wide)
    replay = Replay(layer, x.device)
    start = replay.state()
    if loss is None and dy is None:
        y, _ = pair(type(layer).__name__, "forward", "(y, saved)", layer.forward(x))
        dy = random_dys([y], seed + 2)[0]  # another seed than x was probably drawn with
        replay.restore(start)
    with Trace(layer) as trace:
        y, saved = layer.forward(x)
        dy = dy if loss is None else loss(y, target)[1]
        dx, grads = layer.backward(saved, dy)
    return Run(layer, untouched, x, y, dy, dx, grads, trace.calls, replay, start)


def _judge(report: Report, run: Run, loss, target, samples, seed, watch, module):
    layer, x, dy, replay, start = run.layer, run.x, run.dy, run.replay, run.start

    def objective(y):
        return (y * dy).sum() if loss is None else value(loss)(y, target)

    replay.restore(start)
    oracle = reference.differentiate(layer, x, objective=objective)
    if loss is not None:
        report.rows.append(loss_row(loss, run.y, dy, target))
    if module is not None:
        replay.restore(start)
        of_module = torch_module.differentiate(layer, module, x, objective)
        oracle.dx, oracle.grads = of_module.dx, of_module.grads
        replay.restore(start)
        report.rows += torch_module.module_rows(run.untouched, module, x, of_module)

    grads = {name: two[0] for name, two in parameters(layer.params, run.grads, oracle.grads).items()}
    moved_x = x.detach().clone()
    largest_gradient = largest(run.dx, *grads.values())
    surrogates = any(declared(inner) for inner in layer.walk())

    def difference(name: str, manual: Tensor | None) -> probes.Found | None:
        """Finite differences of the whole net, for its input or a parameter."""
        t = moved_x if name == "input" else layer.params[name]
        if not samples or surrogates or x.dtype != torch.float64 or not t.numel():
            return None
        if manual is None or manual.shape != t.shape:
            return None

        def terms():
            replay.restore(start)
            return layer.forward(moved_x)[0] * dy

        found = probes.sampled(terms, t, manual, samples, 1e-3 * largest_gradient, seed, at_kinks=False)
        report.corners += found.kinks
        return found

    report.rows += _rows(layer, run.calls, grads, oracle, difference, watch)
    earlier = any(row.verdict in ("WRONG", "kink", "declared") for row in report.rows)
    for row in report.rows:
        if row.verdict == "differs":
            row.verdict = "infected" if earlier else "WRONG"


def _contract(report: Report, run: Run, seed: int, strict: bool):
    """Add the breaches of the contract by every layer, on the input that it has in the net."""
    calls = {call.name: call for call in run.calls}
    for name, inner in named_layers(run.untouched):
        if name in calls and not isinstance(inner, Sequential):
            checked = calls[name].layer if isinstance(calls[name].layer, OneInput) else inner
            for breach in breaches(checked, calls[name].x, seed):
                minor = breach.minor and not strict
                (report.notes if minor else report.breaches).append(f"{name} {breach}")


def _rows(
    net: Layer,
    calls: list[Call],
    grads: dict[str, Tensor | None],
    oracle: reference.Answer,
    difference: Difference,
    watch: Watch | None,
) -> list[Row]:
    """The rows of all layers, in the order of backward.

    A row is about a tensor of the whole net, unless its layer is wrong by itself: then it shows that.
    A row that differs in the net alone has the verdict "differs".
    """
    rows, wrong, sizes = [], set(), {}
    terms, depth, doubt = max(call.dy.numel() for call in calls), len(net.leaves()), Doubt(calls[-1])
    for call, tensors in zip(calls, _tensors_in_net(net, calls, grads, oracle)):
        by_itself = {row.tensor: row for row in check_call(call, sizes)}
        not_ok = {name: row for name, row in by_itself.items() if row.verdict != "ok"}
        own = of_net(call.layer)
        if any(id(inner) in wrong for inner in own.walk() if inner is not own):
            not_ok = {}  # the wrong layer inside explains it
        elif any(row.verdict != "not checked" for row in not_ok.values()):
            wrong.add(id(own))
        for tensor, name, manual, autograd in tensors:
            row = not_ok.pop(tensor, None)
            if row is None:
                alone = by_itself[tensor]
                row = Row.of(call.name, tensor, manual, autograd, call.x.dtype, terms, depth, alone.scale)
                if row.verdict == "WRONG" and manual is not None:
                    row.allow(max(alone.allowed, doubt.of(name, autograd)))
                row.verdict = "differs" if row.verdict == "WRONG" else row.verdict
            if name and (found := difference(name, manual)):
                verdict = row.verdict
                row.judge(found, doubt.of_backward(name) if found.excess and row.ok else 0.0)
                row.verdict = "differs" if row.verdict != verdict else verdict
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
    net: Layer, calls: list[Call], grads: dict[str, Tensor | None], oracle: reference.Answer
) -> Iterator[list[NetTensor]]:
    """For each call, its layer's gradients in the whole net.

    A parameter that several layers use belongs to the call of the net, which adds its gradients.
    """
    root, names = calls[-1], _first_names(net)
    leaves = [call for call in calls if not isinstance(call.layer, Net)]
    uses = Counter(i for call in leaves for i in _first_names(call.layer))
    dxs = {}  # id of a layer -> its dx by autograd, one for each use
    for layer, dx in oracle.inputs:
        dxs.setdefault(id(layer), []).append(dx)
    for call in calls:
        params = names.items() if call is root else _first_names(call.layer).items()
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


def _first_names(layer: Layer) -> dict[int, str]:
    """id of a parameter -> its first name."""
    names: dict[int, str] = {}
    for name, t in layer.params.items():
        names.setdefault(id(t), name)
    return names
