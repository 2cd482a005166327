"""The check of what isn't a layer: a Function, a custom operator, a function, a module, a pair of functions.

Three sides are compared for each input: the manual gradient; autograd's of the forward alone, where autograd
can see the forward; and slopes that use the forward's values only, by finite differences and by the order of
the Taylor remainder. The slopes decide. Autograd then tells apart which side is wrong.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from nets.common.errors import UsageError, describe
from nets.gradcheck import inputs as kinds
from nets.gradcheck import unjudged
from nets.gradcheck.differences import EPS
from nets.gradcheck.leaf import Leaf, judge
from nets.gradcheck.measure import compare, largest
from nets.gradcheck.replay import Replay, random_dys, seeded
from nets.gradcheck.replica import same
from nets.gradcheck.report import Report, Row
from nets.gradcheck.subject import Grads, Subject

Watch = Callable[[Row, Tensor | None, Tensor], None]


def check_function(
    f: Any,
    *inputs: Any,
    dy: Any = None,
    kwargs: dict | None = None,
    samples: int = 4,
    seed: int = 0,
    others: bool = True,
    surrogate: Iterable[str] = (),
    watch: Watch | None = None,
    **more: Any,
) -> Report:
    """Compare the gradient of a function at these inputs with autograd's and with finite differences.

    f          a torch.autograd.Function, a custom operator, a function that uses them, a torch.nn.Module, or
               a pair (forward, backward) of plain functions (its forms: nets/gradcheck/pairs.py)
    inputs     of f: tensors, numpy arrays, numbers, None, and nested tuples, lists and dicts of them. If a
               tensor requires a gradient, only those that do are judged; else all floating ones
    dy         the gradient at the output, or a list of one for each output with a gradient; random by default
    kwargs     keyword arguments of f; others can be given directly
    samples    entries of each input that are checked one by one, besides the directions that move all
    others     whether to try other kinds of inputs as well: ties, zeros, heavy tails, scales
    surrogate  names of inputs whose gradient isn't meant to be the derivative
    watch      called with (row, manual, autograd) for every row that has an autograd side

    The inputs are left unchanged. UsageError if f is nothing that can be checked.
    """
    subject = Subject(f, inputs, {**(kwargs or {}), **more})
    module = subject.module
    mode = "" if module is None else "training" if module.training else "evaluation"
    dtypes = {subject.values[i].dtype for i in subject.where}
    report = Report(mode, str(max(dtypes, key=_bits, default=torch.float64)).removeprefix("torch."))
    device = subject.values[subject.where[0]].device if subject.where else torch.device("cpu")
    with seeded(device, seed + 1):
        check = FunctionCheck(subject, Replay(f, device), report, samples, seed, frozenset(surrogate), watch)
        try:
            check.everything(dy, others)
        except (SystemExit, RuntimeError, TypeError) as e:
            report.unchecked = unjudged.reason(e, report.dtype)
            if not report.unchecked:
                raise
    return report


def _bits(dtype: torch.dtype) -> float:
    return -torch.finfo(dtype).eps


class FunctionCheck:
    """The check of one subject at several inputs."""

    def __init__(
        self,
        subject: Subject,
        replay: Replay,
        report: Report,
        samples: int,
        seed: int,
        surrogate: frozenset[str],
        watch: Watch | None,
    ):
        self.subject, self.replay, self.report, self.surrogate = subject, replay, report, surrogate
        self.samples, self.seed, self.watch, self.start = samples, seed, watch, replay.state()
        self.bad: set[str] = set()  # inputs whose gradient is wrong: one mistake is reported once
        self.coarse = False  # whether forward is computed in fewer bits than float64
        self.unseen: set[str] = set()  # inputs without an autograd side
        unknown = surrogate - set(subject.names)
        if unknown:
            raise UsageError(f"surrogate: no input is named {sorted(unknown)[0]}")

    def everything(self, dy: Any, others: bool):
        """Judge at the inputs that are given and, if there are others, at those."""
        left = self.find_outputs()
        if self.report.unchecked:
            return
        self.at(self.subject.values, "", dy)
        if others and not self.report.unchecked and self.subject.inputs:
            self.at_others()
        self.report.about += self.sides() + ([f"{left}: without a gradient, left out"] if left else [])

    def find_outputs(self) -> str:
        """Which outputs are left out."""
        subject = self.subject
        left = subject.find_outputs(subject.values)
        if not subject.where:
            self.report.unchecked = "no input is a tensor of floating numbers"
        elif not subject.judged:
            pair = "" if subject.pair else "; give a pair (forward, backward) if autograd can't see it"
            self.report.unchecked = f"no output of {subject.name} has a gradient{pair}"
        return left

    def at_others(self):
        """Try the other kinds of inputs, and name them."""
        tried, left = ["as given"], []
        for kind, values in kinds.others(self.subject.values, self.subject.inputs, self.seed):
            if self.coarse and kind not in kinds.KEEP_SCALE:
                left.append(f"{kind} (forward isn't computed in float64)")
                continue
            try:
                (tried if self.at(values, kind) else left).append(kind)
            except Exception as e:
                left.append(f"{kind} ({describe(e)})")
        self.report.about.append(f"inputs tried: {', '.join(tried)}")
        if left:
            self.report.about.append(f"inputs left out: {', '.join(left)}")

    def outputs(self, values: Sequence) -> list[Tensor]:
        """The outputs with the same random numbers every time."""
        self.replay.restore(self.start)
        return self.subject.outputs(values)

    def at(self, values: Sequence, kind: str, dy: Any = None) -> bool:
        """Judge every input at these values. Returns whether there was something to judge.

        kind: of the values; "" for those that were given
        """
        subject, report = self.subject, self.report
        ys = self.outputs(values)
        if reason := self._not_judged(ys, values, kind):
            report.unchecked = report.unchecked or ("" if kind else reason)
            return False
        dys = self._dys(ys, dy)
        self.replay.restore(self.start)
        manual = subject.manual(values, dys)
        autograd, doubts = self._autograd(values, dys)
        wide, exact = self._wide(values, ys)
        self.coarse = self.coarse or exact > EPS
        scale = largest(*(_finite(g) for g in manual.values() if isinstance(g, Tensor)))
        for i in subject.where:
            name = subject.names[i]
            if kind and (i not in subject.inputs or name in self.bad):
                continue
            terms = self._terms(wide, i, dys)
            leaf = Leaf(subject.name, name + (f" ({kind})" if kind else ""), values[i], terms)
            leaf.manual, leaf.autograd, leaf.doubt = manual.get(i), autograd.get(i), doubts.get(i, 0.0)
            leaf.exact, leaf.count, leaf.largest = exact, sum(y.numel() for y in ys), scale
            leaf.required, leaf.surrogate = subject.required[i], name in self.surrogate
            leaf.t = wide[i]
            row = judge(leaf, 1 if kind else self.samples, self.seed, report, bool(kind))
            if row and (not kind or not row.ok):
                report.rows.append(row)
                self.bad |= set() if row.ok else {name}
                if self.watch and leaf.autograd is not None:
                    self.watch(row, leaf.manual, leaf.autograd)
            if not kind and leaf.autograd is None:
                self.unseen.add(name)
        return True

    def _not_judged(self, ys: list[Tensor], values: Sequence, kind: str) -> str:
        if why := unjudged.without_elements(ys):
            return why
        if not any(y.isfinite().any() for y in ys) or (kind and not all(y.isfinite().all() for y in ys)):
            return "no entry of the output is finite"
        return unjudged.not_repeated(ys, self.outputs(values))

    def _dys(self, ys: list[Tensor], dy: Any) -> list[Tensor]:
        if dy is not None:
            dys = list(dy) if isinstance(dy, (list, tuple)) else [dy]
            if [d.shape for d in dys] != [y.shape for y in ys]:
                shapes = [tuple(y.shape) for y in ys]
                raise UsageError(f"dy must be a tensor for each output, of the shapes {shapes}")
            return [d.to(y) for d, y in zip(dys, ys)]
        return random_dys(ys, self.seed + 2)

    def _autograd(self, values: Sequence, dys: list[Tensor]) -> tuple[Grads, dict[int, float]]:
        """Autograd's gradients, and the absolute error that each can have by rounding.

        The error is the difference from a second computation, in float64, or in float32 and scaled down.
        """
        self.replay.restore(self.start)
        found = self.subject.autograd(values, dys)
        kind = torch.float32 if all(g.dtype == torch.float64 for g in found.values()) else torch.float64
        self.replay.restore(self.start)
        other = self.subject.autograd(_to(values, kind), _to(dys, kind)) if found else {}
        factor = 1.0 if kind == torch.float64 else torch.finfo(torch.float64).eps / torch.finfo(kind).eps
        gaps = {i: other[i].double() - g.double() for i, g in found.items() if i in other}
        return found, {i: 4 * factor * largest(_finite(gap)) for i, gap in gaps.items()}

    def _wide(self, values: Sequence, ys: list[Tensor]) -> tuple[list, float]:
        """The values in as many bits as the forward takes, and the rounding of its outputs then."""
        for dtype in (torch.float64, torch.float32):
            wide = _to(values, dtype)
            try:
                found = self.outputs(wide)
            except Exception:
                continue
            close = all(
                compare(w[y.isfinite()], y[y.isfinite()]).relative < 0.1
                for w, y in zip(found, ys, strict=True)
            )
            if close:
                return wide, self._rounding(wide)
        return _to(values, None), max(torch.finfo(y.dtype).eps for y in ys)

    def _rounding(self, wide: list) -> float:
        """The rounding of the outputs, which may be computed in fewer bits than they have."""
        nudged = [v * (1 + 1e-6) if isinstance(v, Tensor) and v.is_floating_point() else v for v in wide]
        ys, before = self.outputs(nudged), self.outputs(wide)
        shares = [(y != old).double().mean().item() for y, old in zip(ys, before)]
        moved = max(shares) > 0.2  # else forward is constant nearby
        narrow = moved and all(same(y, y.float().to(y.dtype)) for y in ys)
        return max(torch.finfo(torch.float32 if narrow else y.dtype).eps for y in ys)

    def _terms(self, wide: list, i: int, dys: list[Tensor]):
        def terms() -> Tensor:
            ys = self.outputs(wide)
            return torch.cat([(y.double() * dy.double()).flatten() for y, dy in zip(ys, dys)])

        return terms

    def sides(self) -> list[str]:
        """What the sides of the table are."""
        subject, found = self.subject, []
        if subject.pair and subject.pair.form:
            found.append(f"manual: {subject.pair.form}")
        elif subject.hand_written:
            found.append(f"manual: what {subject.name} registers; autograd: of its forward alone")
        else:
            found.append(f"{subject.name} registers no gradient by hand: manual is autograd's own")
        if self.unseen:
            names = ", ".join(sorted(self.unseen))
            found.append(
                f"judged by finite differences and the order test alone, unseen by autograd: {names}"
            )
        return found


def _to(values: Sequence, dtype: torch.dtype | None) -> list:
    """Copies, the floating ones in a dtype."""
    floating = [isinstance(v, Tensor) and v.is_floating_point() for v in values]
    return [v.to(dtype or v.dtype, copy=True) if yes else v for v, yes in zip(values, floating)]


def _finite(t: Tensor) -> Tensor:
    return t[t.isfinite()]
