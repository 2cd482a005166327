"""The verdict about one input of a function: which of manual, autograd and the slopes disagrees."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nets.gradcheck import locate
from nets.gradcheck.differences import EPS, unit
from nets.gradcheck.locate import Probe, Prober
from nets.gradcheck.measure import tolerance
from nets.gradcheck.order import order
from nets.gradcheck.probes import pick
from nets.gradcheck.report import Report, Row

DIRECTIONS = 2  # probes that move all entries
SMALL = 1e-6  # a share of the slope that the order test resolves in float64


class Leaf:
    """One input, its gradients, and the objective.

    value      the input
    terms      () -> the objective's terms at the current value of t
    t          the input in as many bits as the forward takes
    exact      the rounding of the terms
    manual     the gradient that is judged; None if there is none
    autograd   the gradient of the forward alone; None if autograd can't see it
    doubt      the absolute error that autograd's gradient can have
    count      the number of terms
    largest    the largest entry of all manual gradients
    required   whether None isn't a gradient that is good enough
    surrogate  whether the gradient isn't meant to be the derivative
    """

    manual: Any = None
    autograd: Tensor | None = None
    doubt = 0.0
    exact = EPS
    count = 1
    largest = 0.0
    required = surrogate = False
    t: Tensor

    def __init__(self, layer: str, name: str, value: Tensor, terms: Callable[[], Tensor]):
        self.layer, self.name, self.value, self.terms = layer, name, value, terms

    @property
    def rounding(self) -> float:
        """The relative difference that rounding explains."""
        return tolerance(self.value.dtype, self.count)

    @property
    def allowed(self) -> float:
        """The share of a slope that a right gradient may be off."""
        return locate.tolerance_of(self.value.dtype, self.rounding, self.exact)

    def prober(self, claimed: Tensor, seed: int) -> Prober:
        """For a claimed gradient. Slopes below a share of the largest gradient may be rounding."""
        share = min(0.25, max(1e-6, 30 * math.sqrt(torch.finfo(self.value.dtype).eps)))
        return Prober(self.terms, self.t, claimed, share * self.largest, seed, self.exact)


def judge(leaf: Leaf, samples: int, seed: int, report: Report, extra: bool) -> Row | None:
    """The row of one input, with what the report has to say besides. None if it can't be judged.

    extra: whether the inputs aren't those that were given, so that a gradient may not exist there
    """
    manual = leaf.manual
    if not leaf.value.numel():
        return Row.alone(leaf.layer, leaf.name, leaf.value, None)
    if manual is not None and (not isinstance(manual, Tensor) or manual.shape != leaf.value.shape):
        shape = tuple(manual.shape) if isinstance(manual, Tensor) else type(manual).__name__
        report.breaches.append(f"the gradient of {leaf.name} is {shape}, not {tuple(leaf.value.shape)}")
        return Row.alone(leaf.layer, leaf.name, leaf.value, None, "WRONG")
    if manual is not None and not manual.isfinite().all() and extra:
        report.notes.append(f"the gradient of {leaf.name} isn't finite, though the output is")
        return None
    claimed = torch.zeros_like(leaf.value) if manual is None else manual.to(leaf.value.device)
    row = _row(leaf, claimed)
    prober, tol = leaf.prober(claimed, seed), leaf.allowed
    probes = _probes(prober, samples)
    if leaf.surrogate:
        row.verdict = "declared" if row.verdict != "ok" or any(p.wrong(tol) for p in probes) else "ok"
        return row
    wrong = [p for p in probes if p.wrong(tol)]
    if not wrong and probes:
        wrong = _by_order(leaf, row, prober, probes[0], tol)
    _show(row, probes)
    if manual is None and wrong:
        row.verdict = "WRONG" if leaf.required else "declared"
        said = "is None, though the output depends on it" + ("" if leaf.required else "; it is not judged")
        if leaf.required or not extra:
            (report.breaches if leaf.required else report.notes).append(f"the gradient of {leaf.name} {said}")
        return None if extra and not leaf.required else row
    elif wrong:
        _found_wrong(leaf, row, prober, wrong[0], tol, report)
    elif row.verdict == "WRONG":
        _autograd_differs(leaf, row, prober, claimed, tol, report)
    elif leaf.autograd is None and not any(p.resolved for p in probes):
        row.verdict = "not checked"
        row.unresolved = True
    return row


def _row(leaf: Leaf, claimed: Tensor) -> Row:
    """The comparison of manual with autograd, where there is one."""
    if leaf.autograd is None:
        return Row.alone(leaf.layer, leaf.name, leaf.value, claimed)
    size = 1e-3 * leaf.largest
    row = Row.of(leaf.layer, leaf.name, claimed, leaf.autograd, leaf.value.dtype, leaf.count, 1, size)
    if row.verdict == "WRONG":
        row.allow(leaf.doubt)
    return row


def _probes(prober: Prober, samples: int) -> list[Probe]:
    """Directions over the whole tensor first, then single entries."""
    whole = [prober.along(prober.direction()) for _ in range(DIRECTIONS)]
    if any(probe is not None and not probe.judged for probe in whole):
        whole += [prober.along(prober.together(zeros)) for zeros in (True, False)]
    entries = pick(prober.claimed, samples, prober.generator)
    units = [unit(prober.t, i) for i in entries if prober.t.reshape(-1)[i].isfinite()]
    return [probe for probe in (*whole, *map(prober.along, units)) if probe is not None and probe.judged]


def _by_order(leaf: Leaf, row: Row, prober: Prober, probe: Probe, tol: float) -> list[Probe]:
    """[probe] if the remainder falls like that of a wrong slope, where finite differences don't object."""
    if probe.slope.kink:
        return []
    found = order(leaf.terms, leaf.t, probe.direction, probe.claimed, prober.size, leaf.exact)
    double = leaf.value.dtype == torch.float64 and leaf.exact <= EPS
    least = (SMALL if double else tol) * probe.scale
    wrong = found.wrong and found.error > least and probe.gap > 2 * probe.slope.error
    if wrong or (double and not found.wrong):  # else the rounding of manual is an error of the first order
        row.order = found.exponent
    return [probe] if wrong else []


def _show(row: Row, probes: list[Probe]):
    """The largest relative difference of the slopes that are resolved, or objected to."""
    shown = [p.gap / p.scale for p in probes if p.resolved or p.gap > p.slope.error]
    row.difference = max(shown, default=None)
    row.unresolved = not shown


def _found_wrong(leaf: Leaf, row: Row, prober: Prober, probe: Probe, tol: float, report: Report):
    """The slopes disagree with manual: say where, and on whose side autograd is."""
    agrees = leaf.autograd is not None and row.verdict == "ok"
    row.verdict = "WRONG"
    if row.order is None and not probe.slope.kink:
        row.order = order(
            leaf.terms, leaf.t, probe.direction, probe.claimed, prober.size, leaf.exact
        ).exponent
    entries = locate.wrong_entries(prober, min(tol, probe.gap / probe.scale / 8))
    if entries:
        at = [tuple(int(n) for n in torch.unravel_index(torch.tensor(i), leaf.t.shape)) for i, _ in entries]
        more = ", …" if len(at) == locate.SHOWN else ""
        text = ", ".join("(" + ",".join(map(str, index)) + ")" for index in at)
        report.about.append(f"{leaf.name}: wrong at {text}{more}")
        if leaf.autograd is None:
            _, row.worst = max(zip((p.gap / p.scale for _, p in entries), at))
            row.manual = prober.claimed[row.worst].item()
    if agrees:
        said = "manual and autograd agree, and finite differences disagree with both"
    elif leaf.autograd is None:
        return
    else:
        other = (leaf.autograd.to(probe.direction) * probe.direction).double().sum().item()
        sided = probe.slope.gap(other) <= probe.slope.error + tol * probe.scale
        said = "finite differences agree with autograd" if sided else "the three sides differ from each other"
    report.about.append(f"{leaf.name}: {said}")


def _autograd_differs(leaf: Leaf, row: Row, prober: Prober, claimed: Tensor, tol: float, report: Report):
    """The slopes don't object to manual, but autograd differs: the entry that differs most decides."""
    assert leaf.autograd is not None
    if row.worst == () and leaf.t.dim():
        return  # another shape
    index = int(torch.arange(leaf.t.numel()).reshape(leaf.t.shape)[row.worst])
    probe = prober.along(unit(leaf.t, index))
    if probe is None:
        return
    gap, other = probe.gap, probe.slope.gap(leaf.autograd[row.worst].item())
    low = leaf.value.dtype != torch.float64
    if probe.slope.kink and gap <= probe.slope.error:
        row.verdict = "kink"
    elif gap <= max(0.1 * other, tol * row.scale if low else 0.0):
        row.verdict = "ok"
        if other > 10 * gap + probe.slope.error + row.tolerance * row.scale:
            said = "manual and finite differences agree, and autograd of the forward disagrees with both"
            report.about.append(f"{leaf.name}: {said}")
