"""The report of a check: one row per tensor, from the loss backwards, and the first that is wrong."""

import math
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from nets.common.errors import MismatchError
from nets.gradcheck.measure import compare, cosine, largest, tolerance, ulps
from nets.gradcheck.probes import Found

HEAD = ("tensor", "shape", "dtype", "max abs", "max rel", "allowed", "cosine", "ULPs", "worst ULPs")
HEAD += ("worst at", "manual", "autograd", "finite difference", "order", "")
ORDER = HEAD.index("order")
MOST_ALLOWED = 1e-3  # relative: no rounding excuses a larger difference


@dataclass
class Row:
    """One tensor: manual against autograd, and against finite differences.

    verdict is one of
    "ok"        manual and autograd agree
    "WRONG"     they differ, and the layer by itself differs on the same x and dy, too
    "kink"      they differ only at kinks of the forward, and manual is between the slopes of both sides
    "infected"  they differ, but the layer by itself is right: its dy or x was already wrong
    "declared"  they differ, and the layer declares that this gradient is a surrogate
    "not checked"  there is no entry that is finite on both sides
    """

    layer: str
    tensor: str
    shape: tuple[int, ...]
    dtype: str
    absolute: float  # largest |manual − autograd|
    relative: float  # absolute / scale
    tolerance: float  # the relative difference that rounding can explain
    scale: float  # the largest |autograd|, or its size if the terms of its sums didn't cancel
    cosine: float
    ulp_median: float
    ulp_worst: float
    worst: tuple[int, ...]  # index of the largest difference
    manual: float  # both values there
    autograd: float
    difference: float | None = None  # largest relative difference from finite differences
    allowed: float = 0.0  # absolute error that the numbers' conditioning allows
    unresolved: bool = False  # finite differences were tried, and rounding hides the slope
    verdict: str = "ok"
    compared: int = 0  # entries that are finite on both sides
    order: float | None = None  # of the Taylor remainder: 2 or more if the gradient is right, 1 if not
    sides: int = 2  # 1 if autograd can't see the forward

    @classmethod
    def of(
        cls,
        layer: str,
        tensor: str,
        manual: Tensor | None,
        autograd: Tensor,
        dtype: torch.dtype,
        terms: int,
        layers: int = 1,
        min_scale: float = 0.0,
    ) -> "Row":
        """The row of one comparison. dtype, terms and layers as in `tolerance`, min_scale as in `compare`.

        manual: None if backward didn't return this gradient.
        """
        if manual is None:
            manual = torch.full((), float("nan"), dtype=autograd.dtype)
        gap = compare(manual, autograd, min_scale)
        row = cls(
            *(layer, tensor, tuple(autograd.shape), str(autograd.dtype).removeprefix("torch.")),
            *(gap.absolute, gap.relative, tolerance(dtype, terms, layers)),
            max(largest(autograd[autograd.isfinite()]), min_scale),
            *(cosine(manual, autograd), *ulps(manual, autograd, dtype), gap.at, gap.manual, gap.oracle),
        )
        if manual.shape == autograd.shape:
            row.compared = int((manual.isfinite() & autograd.isfinite()).sum())
        row.verdict = "ok" if row.relative <= row.tolerance else "WRONG"
        if row.verdict == "ok" and not row.compared:
            row.verdict = "not checked"
        return row

    @classmethod
    def alone(cls, layer: str, tensor: str, t: Tensor, manual: Tensor | None, verdict: str = "ok") -> "Row":
        """The row of a tensor without autograd's gradient: finite differences judge alone.

        t: the tensor itself.
        """
        nan, dtype = float("nan"), str(t.dtype).removeprefix("torch.")
        unknown = (nan, nan, nan, nan, nan, nan, nan, (), nan, nan)
        row = cls(layer, tensor, tuple(t.shape), dtype, *unknown, verdict=verdict, sides=1)
        row.compared = 0 if manual is None else int(manual.isfinite().sum())
        if verdict == "ok" and not row.compared:
            row.verdict = "not checked"
        return row

    def allow(self, error: float):
        """Allow an absolute error besides that of the sums' rounding."""
        self.allowed = error
        if math.isfinite(error) and self.scale:
            self.tolerance = max(self.tolerance, min(error / self.scale, MOST_ALLOWED))
            self.verdict = "ok" if self.relative <= self.tolerance else "WRONG"

    def judge(self, found: Found, doubt: float = 0.0):
        """Add what finite differences found. The row is WRONG if they differ by more than a doubt.

        doubt: the absolute error that the gradient itself can have.
        """
        self.unresolved = found.relative is None and self.difference is None
        if found.relative is not None:
            self.difference = max(self.difference or 0.0, found.relative)
        if found.excess > doubt and self.verdict == "ok":
            self.verdict = "WRONG"

    @property
    def name(self) -> str:
        """Layer and tensor, such as "0 (Linear), weight"."""
        return f"{self.layer}, {self.tensor}"

    @property
    def ok(self) -> bool:
        """Whether the verdict is "ok", "kink" or "declared"."""
        return self.verdict in ("ok", "kink", "declared")

    def _slope(self) -> str:
        if self.difference is not None:
            return f"{self.difference:.1e}"
        return "not resolvable" if self.unresolved else ""

    def _order(self) -> str:
        if self.order is None or math.isnan(self.order):
            return ""
        return "exact" if math.isinf(self.order) else f"{self.order:.2f}"

    def cells(self) -> tuple[str, ...]:
        """The row as texts, in the order of HEAD."""
        compared = (
            *(f"{self.absolute:.1e}", f"{self.relative:.1e}", f"{self.tolerance:.1e}"),
            *(f"{self.cosine:.6g}", f"{self.ulp_median:.2g}", f"{self.ulp_worst:.2g}"),
        )
        values = (f"{self.manual:.6g}", f"{self.autograd:.6g}")
        if self.sides == 1:
            compared, values = ("",) * 6, ("" if math.isnan(self.manual) else values[0], "")
        return (
            *(self.name, "×".join(map(str, self.shape)), self.dtype, *compared),
            *(",".join(map(str, self.worst)), *values, self._slope(), self._order(), self.verdict),
        )


@dataclass
class Report:
    """The result of a check.

    mode       "training" or "evaluation", "" for a function, which has none
    dtype      of the input, such as "float64"
    rows       in the order of backward
    breaches   of the contract, a sentence each
    corners    entries at which finite differences found a kink
    notes      breaches of the rules that concern no gradient's value
    unchecked  why nothing was judged, or ""
    about      sentences about the sides, the wrong entries and the inputs that were tried
    """

    mode: str
    dtype: str
    rows: list[Row] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)
    corners: int = 0
    notes: list[str] = field(default_factory=list)
    unchecked: str = ""
    about: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether no tensor is wrong, every tensor was checked, and the contract is kept."""
        return not self.problem

    @property
    def problem(self) -> str:
        """The first problem: a tensor that is wrong, a breach, or what wasn't checked. "" if ok."""
        problems = [*self.guilty, *self.breaches, *self._not_checked()]
        return problems[0] if problems else ""

    def _not_checked(self) -> list[str]:
        """What was not checked, with the reason."""
        if self.unchecked or not self.rows:
            return [f"not checked: {self.unchecked or 'there is no gradient'}"]
        empty = [row for row in self.rows if row.verdict == "not checked"]
        if not empty:
            return []
        reason = (
            "no entry is finite" if any(row.shape.count(0) == 0 for row in empty) else "it has no elements"
        )
        more = f" (and {len(empty) - 1} more)" if len(empty) > 1 else ""
        return [f"{empty[0].name}{more} not checked: {reason}"]

    @property
    def guilty(self) -> list[str]:
        """The names of the tensors that are WRONG."""
        return [row.name for row in self.rows if row.verdict == "WRONG"]

    @property
    def kinks(self) -> list[str]:
        """The names of the tensors that differ only at kinks."""
        return [row.name for row in self.rows if row.verdict == "kink"]

    @property
    def first_bad(self) -> str:
        """The name of the first tensor that is WRONG, from the loss backwards, or ""."""
        return next(iter(self.guilty), "")

    def raise_if_wrong(self):
        """MismatchError with the table unless the report is ok."""
        if not self.ok:
            raise MismatchError(f"{self.problem}\n{self.table()}")

    def heading(self, name: str, more: str = "") -> str:
        """A name and the mode, where there is one."""
        mode = f"{self.mode} mode" if self.mode else ""
        return ", ".join(part for part in (name, mode, more) if part)

    def line(self, name: str) -> str:
        """The report of a check that passed, in one line. name: of what was checked."""
        used = max((row.relative / row.tolerance for row in self.rows if row.sides == 2), default=0.0)
        gaps = [row.difference for row in self.rows if row.difference is not None]
        finite = f", finite differences within {max(gaps):.0e}" if gaps else ""
        kinks = f", {len(self.kinks)} at kinks" if self.kinks else ""
        where = ", ".join(filter(None, (name, self.mode)))
        text = f"{where}: {len(self.rows)} tensors ok{kinks}, at most {used:.1%} of what is allowed"
        return text + finite

    def table(self) -> str:
        """The report as text: a line per tensor, and what is wrong."""
        lines = [HEAD, *(row.cells() for row in self.rows)]
        used = [i for i in range(len(HEAD)) if i != ORDER or any(line[i] for line in lines[1:])]
        lines = [tuple(line[i] for i in used) for line in lines]
        widths = [max(len(line[i]) for line in lines) for i in range(len(used))]
        against = "autograd, from the loss backwards" if self.mode else "autograd and finite differences"
        text = [f"{self.heading('', self.dtype)}: manual against {against}"]
        text += ["  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip() for line in lines]
        if self.first_bad:
            order = ", from the loss backwards" if self.mode else ""
            text.append(f"first wrong{order}: {self.first_bad}")
        infected = sum(row.verdict == "infected" for row in self.rows)
        if infected:
            text.append(f"infected: {infected} tensors differ only because an earlier one is wrong")
        if self.kinks:
            text.append(f"at kinks, not errors: {', '.join(self.kinks)} have another of the slopes there")
        if self.corners:
            text.append(f"finite differences met {self.corners} kinks, where a gradient has several values")
        declared = [row.name for row in self.rows if row.verdict == "declared"]
        if declared:
            text.append(f"declared as a surrogate, not judged: {', '.join(declared)}")
        text += self.about
        text += [f"contract: {breach}" for breach in self.breaches]
        text += [f"note: {note}" for note in self.notes]
        text += self._not_checked()
        return "\n".join(text)

    def facts(self) -> dict:
        """The report as a dict, for JSON."""
        return asdict(self) | {"ok": self.ok, "first_bad": self.first_bad, "kinks": self.kinks}
