"""In a lower precision, is the manual gradient as close to the truth as autograd's?

The truth is autograd in float64 on the same numbers: weights and inputs are first rounded to the lower
precision. The error of a tensor is the norm of its difference from the truth, divided by the truth's norm.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from tqdm import tqdm

from nets.gradcheck import unjudged
from nets.gradcheck.case import Case
from nets.gradcheck.check import check_net
from nets.gradcheck.replica import replica

MAX_RATIO = 1.1  # of the manual gradient's error to autograd's


@dataclass
class Ratio:
    """The errors of one tensor: medians over seeds."""

    case: str
    mode: str
    tensor: str
    manual: float
    autograd: float
    ratio: float
    low: float  # smallest and largest ratio over the seeds
    high: float

    @property
    def checked(self) -> bool:
        """Whether both errors are numbers."""
        return math.isfinite(self.ratio)

    @property
    def ok(self) -> bool:
        """Whether the manual gradient is at most MAX_RATIO times as far from the truth as autograd's."""
        return self.ratio <= MAX_RATIO


class NotChecked(Exception):
    """A case that has nothing to compare, with the reason."""


def errors(case: Case, device: torch.device, dtype: torch.dtype, seed: int) -> dict[str, tuple[float, float]]:
    """Name of a tensor -> (error of manual, error of autograd). The case's layer is converted to dtype."""
    lower = case.to(device, dtype)
    higher = lower.to(device, torch.float64)
    dy = None
    if lower.loss is None:  # the same dy for both, rounded to the lower precision
        torch.manual_seed(seed + 2)
        try:
            y, _ = replica(lower.layer).forward(lower.x)
        except (SystemExit, RuntimeError, TypeError) as e:
            if why := unjudged.reason(e, str(dtype).removeprefix("torch.")):
                raise NotChecked(why) from None
            raise
        dy = torch.randn(y.shape, dtype=torch.float64).to(y)
    truth = _gradients(higher, dy, seed)
    result = {}
    for name, pair in _gradients(lower, dy, seed).items():
        true = truth[name][1].double()
        # errors below a hundredth of a rounding count as that: they are as good as none
        smallest = 0.01 * torch.finfo(dtype).eps * true.norm().item() or 1e-300
        result[name] = tuple(
            max((t.double() - true).norm().item(), smallest) / (true.norm().item() or 1) for t in pair
        )
    return result


def _gradients(case: Case, dy: Tensor | None, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Name of a tensor -> (manual gradient, autograd's gradient)."""
    found = {}

    def watch(row, manual, autograd):
        found[row.name] = (manual, autograd)

    dy = None if dy is None else dy.to(case.x.dtype)
    report = check_net(case.layer, case.x, dy, case.loss, case.target, 0, seed, contract=False, watch=watch)
    if report.unchecked or not found:
        raise NotChecked(report.unchecked or "there is no gradient")
    return found


def ratios(
    make: Callable[[int], Case],
    device: torch.device,
    dtype: torch.dtype,
    seeds: int,
    training: bool,
    bar: tqdm | None = None,
) -> list[Ratio]:
    """One Ratio per tensor of a case, over the seeds 0 to seeds − 1.

    make      seed -> the case
    training  True for training mode, False for evaluation
    bar       a tqdm bar that is advanced by one per seed

    NotChecked if a case has nothing to compare.
    """
    runs, name = [], ""
    for seed in range(seeds):
        case = make(seed)
        case.layer.train(training)
        name = case.name
        runs.append(errors(case, device, dtype, seed))
        if bar is not None:
            bar.update()
    mode, rows = "training" if training else "evaluation", []
    for tensor in runs[0]:
        manual, autograd = zip(*(run[tensor] for run in runs))
        found = [m / a for m, a in zip(manual, autograd)]
        medians = (median(manual), median(autograd), median(found))
        rows.append(Ratio(name, mode, tensor, *medians, min(found), max(found)))
    return rows


def table(rows: list[Ratio]) -> str:
    """The ratios as text, one line per tensor. A tensor that isn't ok has the word "further"."""
    head = ("tensor", "manual's error", "autograd's error", "ratio", "least to largest", "")
    lines = [head] + [
        (
            *(r.tensor, f"{r.manual:.2e}", f"{r.autograd:.2e}", f"{r.ratio:.3f}"),
            *(f"{r.low:.2f}–{r.high:.2f}", "ok" if r.ok else "further" if r.checked else "not checked"),
        )
        for r in rows
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines)
