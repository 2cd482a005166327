"""A report: one row a tensor, from the loss backwards, and who is guilty."""

from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from nets.gradcheck.measure import compare, cosine, tolerance, ulps

HEAD = ("tensor", "shape", "dtype", "max abs", "max rel", "allowed", "cosine", "ULPs", "worst ULPs")
HEAD += ("worst at", "manual", "autograd", "finite difference", "")


@dataclass
class Row:
    """One tensor, manual against autograd (and against finite differences).

    verdict is "ok"; "WRONG": the layer by itself is off, given what it was given; "kink": it is
    off at corners of the forward only, with a slope that lies between their two sides; or
    "infected": the layer is right, and what reached it was off.
    """

    layer: str
    tensor: str
    shape: tuple[int, ...]
    dtype: str
    absolute: float  # largest |manual − autograd|
    relative: float  # that over `scale`
    tolerance: float  # the relative difference that rounding explains
    scale: float  # the largest |autograd|, or what it would be if the sums didn't cancel
    cosine: float
    ulp_median: float
    ulp_worst: float
    worst: tuple[int, ...]  # where the difference is largest
    manual: float  # both values there
    autograd: float
    difference: float | None = None  # the relative measure against finite differences
    verdict: str = "ok"

    @classmethod
    def of(cls, layer, tensor, manual: Tensor | None, autograd: Tensor, dtype, terms, layers=1, floor=0.0):
        """Measure: dtype, terms and layers as in `tolerance`, floor as in `compare`."""
        if manual is None:  # nothing was given back
            manual = torch.full((), float("nan"), dtype=autograd.dtype)
        gap = compare(manual, autograd, floor)
        row = cls(
            *(layer, tensor, tuple(autograd.shape), str(autograd.dtype).removeprefix("torch.")),
            *(gap.absolute, gap.relative, tolerance(dtype, terms, layers)),
            max(autograd.abs().max().item() if autograd.numel() else 0.0, floor),
            *(cosine(manual, autograd), *ulps(manual, autograd, dtype), gap.at, gap.manual, gap.oracle),
        )
        row.verdict = "ok" if row.relative <= row.tolerance else "WRONG"
        return row

    @property
    def name(self) -> str:
        return f"{self.layer}, {self.tensor}"

    @property
    def ok(self) -> bool:
        return self.verdict in ("ok", "kink")

    def cells(self) -> tuple[str, ...]:
        return (
            *(self.name, "×".join(map(str, self.shape)), self.dtype),
            *(f"{self.absolute:.1e}", f"{self.relative:.1e}", f"{self.tolerance:.1e}"),
            *(f"{self.cosine:.6g}", f"{self.ulp_median:.2g}", f"{self.ulp_worst:.2g}"),
            *(",".join(map(str, self.worst)), f"{self.manual:.6g}", f"{self.autograd:.6g}"),
            *("" if self.difference is None else f"{self.difference:.1e}", self.verdict),
        )


@dataclass
class Report:
    """What a check found: rows in backward order, and breaches of the contract, as sentences."""

    mode: str
    dtype: str
    rows: list[Row] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)
    corners: int = 0  # sampled entries at which finite differences met a kink

    @property
    def ok(self) -> bool:
        return not self.breaches and not self.guilty

    @property
    def guilty(self) -> list[str]:
        return [row.name for row in self.rows if row.verdict == "WRONG"]

    @property
    def kinks(self) -> list[str]:
        return [row.name for row in self.rows if row.verdict == "kink"]

    @property
    def first_bad(self) -> str:
        """The first tensor, from the loss backwards, whose layer is off by itself, or ""."""
        return next(iter(self.guilty), "")

    def line(self, name: str) -> str:
        """The report of a check that passed, in one line."""
        used = max((row.relative / row.tolerance for row in self.rows), default=0.0)
        gaps = [row.difference for row in self.rows if row.difference is not None]
        finite = f", finite differences within {max(gaps):.0e}" if gaps else ""
        kinks = f", {len(self.kinks)} at kinks" if self.kinks else ""
        text = (
            f"{name}, {self.mode}: {len(self.rows)} tensors ok{kinks}, at most {used:.1%} of what is allowed"
        )
        return text + finite

    def table(self) -> str:
        lines = [HEAD, *(row.cells() for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
        text = [f"{self.mode} mode, {self.dtype}: manual against autograd, from the loss backwards"]
        text += ["  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip() for line in lines]
        if self.first_bad:
            text.append(f"first wrong, from the loss backwards: {self.first_bad}")
        infected = sum(row.verdict == "infected" for row in self.rows)
        if infected:
            text.append(f"infected: {infected} tensors, right by themselves, behind what is off")
        if self.kinks:
            text.append(f"at kinks, not errors: {', '.join(self.kinks)} take another of the slopes there")
        if self.corners:
            text.append(
                f"finite differences met {self.corners} kinks; there the gradient lies between both slopes"
            )
        text += [f"contract: {breach}" for breach in self.breaches]
        return "\n".join(text)

    def facts(self) -> dict:
        """For JSON."""
        return asdict(self) | {"ok": self.ok, "first_bad": self.first_bad, "kinks": self.kinks}
