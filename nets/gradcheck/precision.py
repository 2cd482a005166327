"""In fewer bits, who is nearer the truth: the manual gradient or autograd's?

The truth is autograd in float64, on the same numbers: the weights and inputs are first rounded
to the lower precision. An error is the length of the difference over the length of the truth.
"""

import copy
from dataclasses import dataclass
from statistics import median

import torch

from nets.gradcheck.case import Case
from nets.gradcheck.check import check

MOST = 1.1  # the manual gradient may be this much further from the truth than autograd's


@dataclass
class Ratio:
    """One tensor's errors, medians over seeds."""

    case: str
    mode: str
    tensor: str
    manual: float
    autograd: float
    ratio: float
    low: float  # the ratio's least and largest over the seeds
    high: float

    @property
    def ok(self) -> bool:
        return self.ratio <= MOST


def errors(case: Case, where, dtype, seed: int) -> dict[str, tuple[float, float]]:
    """tensor -> (error of manual, error of autograd)."""
    few = case.to(where, dtype)
    many = copy.deepcopy(few).to(where, torch.float64)
    found, truth, dy = {}, {}, None
    if few.loss is None:  # the same dy for both, rounded once
        torch.manual_seed(seed + 2)
        y, _ = copy.deepcopy(few.layer).forward(few.x)
        dy = torch.randn(y.shape, dtype=torch.float64).to(y)
    for case, kept in ((many, truth), (few, found)):

        def watch(row, manual, autograd, kept=kept):
            kept[row.name] = (manual, autograd)

        given = None if dy is None else dy.to(case.x.dtype)
        options = dict(samples=0, seed=seed, contract=False, watch=watch)
        check(case.layer, case.x, given, case.loss, case.target, **options)
    result = {}
    for name, pair in found.items():
        true = truth[name][1].double()
        # an error of a hundredth of a rounding can't be told from none
        least = 0.01 * torch.finfo(dtype).eps * true.norm().item() or 1e-300
        result[name] = tuple(
            max((t.double() - true).norm().item(), least) / (true.norm().item() or 1) for t in pair
        )
    return result


def ratios(make, where, dtype, seeds: int, training: bool, bar=None) -> list[Ratio]:
    """Medians over seeds; make(seed) -> Case."""
    runs = []
    for seed in range(seeds):
        case = make(seed)
        case.layer.train(training)
        runs.append(errors(case, where, dtype, seed))
        if bar is not None:
            bar.update()
    mode, rows = "training" if training else "evaluation", []
    for name in runs[0]:
        manual, autograd = zip(*(run[name] for run in runs))
        each = [m / a for m, a in zip(manual, autograd)]
        middle = (median(manual), median(autograd), median(each))
        rows.append(Ratio(case.name, mode, name, *middle, min(each), max(each)))
    return rows


def table(rows: list[Ratio]) -> str:
    head = ("tensor", "manual's error", "autograd's error", "ratio", "least to largest", "")
    lines = [head] + [
        (
            *(r.tensor, f"{r.manual:.2e}", f"{r.autograd:.2e}", f"{r.ratio:.3f}"),
            *(f"{r.low:.2f}–{r.high:.2f}", "ok" if r.ok else "further"),
        )
        for r in rows
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines)
