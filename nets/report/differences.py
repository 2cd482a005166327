"""The figure of a gradient check: the differences of the two gradients, by layer and by entry."""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from nets.gradcheck.measure import relative_differences
from nets.report.figure import save

COLORS = {"float64": "tab:blue", "float32": "tab:green", "float16": "tab:purple", "bfloat16": "tab:orange"}
EQUAL = 1e-20  # where bit-identical entries are drawn
POINTS = 1500  # in the scatter plot, for each dtype


def draw(path: Path, title: str, found: dict[str, list]):
    """Write a PNG. found: dtype -> [(gradcheck's row, manual, autograd), …] in backward order.

    Left, the relative differences of each tensor: a line from the 5th to the 95th percentile, a dot
    at the median, a tick at the maximum, and a gray tick at the tolerance. Right, manual against
    autograd, with a cross where the signs differ.
    """
    names = [row.name for row, _, _ in next(iter(found.values()))]
    figure = Figure(figsize=(13, max(4.5, 0.26 * len(names) + 1.8)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    figure.suptitle(title)
    for n, (dtype, triples) in enumerate(found.items()):
        _ranges(left, dtype, triples, offset=(n - (len(found) - 1) / 2) * 0.22)
        _scatter(right, dtype, triples)
    left.set(xscale="log", xlim=(EQUAL / 3, 30), xlabel="|manual − autograd| / largest |autograd|")
    left.set_yticks(range(len(names)), names, fontsize=8)
    left.set_ylim(len(names) - 0.4, -0.6)
    ticks = [EQUAL, *(10.0**k for k in range(-16, 1, 4))]
    left.set_xticks(ticks, ["equal", *(f"$10^{{{k}}}$" for k in range(-16, 1, 4))])
    left.minorticks_off()
    left.grid(axis="x", alpha=0.3)
    key = "line: 5–95% of entries, dot: median, tick: maximum, gray tick: tolerance"
    left.set_title(f"from the loss (top) to the input; {key}", fontsize=9)
    right.set(xscale="log", yscale="log", xlabel="|autograd|", ylabel="|manual|")
    ends = (max(right.get_xlim()[0], right.get_ylim()[0]), min(right.get_xlim()[1], right.get_ylim()[1]))
    right.plot(ends, ends, color="black", linewidth=0.6, zorder=0)
    right.set_title("manual against autograd; × where the signs differ", fontsize=10)
    right.legend(loc="upper left")
    save(figure, path)


def _ranges(axis, dtype, triples, offset):
    for y, (row, manual, autograd) in enumerate(triples):
        if manual is None or manual.shape != autograd.shape or not manual.numel():
            continue
        gaps = relative_differences(manual, autograd).cpu().nan_to_num(10.0).clamp(EQUAL, 10.0)
        if len(gaps) > 100_000:
            gaps = gaps[:: len(gaps) // 100_000]
        low, middle, high = torch.quantile(gaps, torch.tensor([0.05, 0.5, 0.95], dtype=gaps.dtype)).tolist()
        at, color = y + offset, COLORS[dtype]
        axis.plot([low, high], [at, at], color=color, linewidth=2, solid_capstyle="butt")
        axis.plot(middle, at, "o", color=color, markersize=3.5)
        axis.plot(gaps.max(), at, "|", color=color, markersize=6)
        axis.plot(row.tolerance, at, "|", color="gray", markersize=6, alpha=0.6)


def _scatter(axis, dtype, triples):
    pairs = [(m, a) for _, m, a in triples if m is not None and m.shape == a.shape]
    manual, autograd = (torch.cat([t.flatten().double().cpu() for t in side]) for side in zip(*pairs))
    both = ((manual != 0) & (autograd != 0)).nonzero()[:, 0]
    some = both[torch.randperm(len(both), generator=torch.Generator().manual_seed(0))[:POINTS]]
    manual, autograd = manual[some], autograd[some]
    same = manual.sign() == autograd.sign()
    style = dict(color=COLORS[dtype], markersize=4, alpha=0.6, linestyle="none")
    axis.plot(autograd[same].abs(), manual[same].abs(), ".", label=dtype, **style)
    axis.plot(autograd[~same].abs(), manual[~same].abs(), "x", **style)
