"""The figure of a gradient check: the differences of the two gradients, by layer and by entry."""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nets.gradcheck.measure import relative_differences
from nets.report.figure import save

# dark enough for text of 4.5:1 on white
COLORS = {"float64": "#1f5fa8", "float32": "#2a7d3f", "float16": "#7a4fa3", "bfloat16": "#b04a00"}
EQUAL = 1e-20  # where bit-identical entries are drawn
ALLOWED = "<"  # the mark of the largest difference that is allowed
POINTS = 1500  # in the scatter plot, for each dtype


def draw(path: Path, title: str, found: dict[str, list]):
    """Write a PNG. found: dtype -> [(gradcheck's row, manual, autograd), …] in backward order.

    Left, the relative differences of each tensor: a line from the 5th to the 95th percentile, a dot
    at the median, a tick at the maximum, and a triangle at the largest that is allowed. Right, manual
    against autograd, with a cross where the signs differ. A dtype has one color in both.
    """
    names = [row.name for row, _, _ in next(iter(found.values()))]
    figure = Figure(figsize=(13, max(4.5, 0.26 * len(names) + 2.2)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    figure.suptitle(title, parse_math=False)
    for n, (dtype, triples) in enumerate(found.items()):
        _ranges(left, dtype, triples, offset=(n - (len(found) - 1) / 2) * 0.22)
        _scatter(right, dtype, triples)
    left.set(xscale="log", xlim=(EQUAL / 3, 30), xlabel="|manual − autograd| / largest |autograd|")
    left.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    left.set_ylim(len(names) - 0.4, -0.6)
    ticks = [EQUAL, *(10.0**k for k in range(-16, 1, 4))]
    left.set_xticks(ticks, ["equal", *(f"$10^{{{k}}}$" for k in range(-16, 1, 4))])
    left.minorticks_off()
    left.grid(axis="x", alpha=0.3)
    left.set_title("differences, from the loss (top) to the input", fontsize=10)
    right.set(xscale="log", yscale="log", xlabel="|autograd|", ylabel="|manual|")
    ends = (max(right.get_xlim()[0], right.get_ylim()[0]), min(right.get_xlim()[1], right.get_ylim()[1]))
    right.plot(ends, ends, color="black", linewidth=0.6, zorder=0)
    right.set_title("manual against autograd", fontsize=10)
    style: dict = dict(color="black", linestyle="none")
    marks = [
        Line2D([], [], color="black", linewidth=2, label="5–95% of entries"),
        Line2D([], [], marker="o", markersize=3.5, label="median", **style),
        Line2D([], [], marker="|", markersize=7, label="maximum", **style),
        Line2D([], [], marker=ALLOWED, markersize=5, markerfacecolor="none", label="allowed", **style),
        Line2D([], [], marker="x", markersize=4, label="signs differ", **style),
    ]
    dtypes = [Line2D([], [], marker="s", linestyle="none", color=COLORS[d], label=d) for d in found]
    figure.legend(handles=[*dtypes, *marks], loc="outside right center", frameon=False, fontsize=9)
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
        axis.plot(row.tolerance, at, ALLOWED, color=color, markersize=4.5, markerfacecolor="none")


def _scatter(axis, dtype, triples):
    pairs = [(m, a) for _, m, a in triples if m is not None and m.shape == a.shape]
    manual, autograd = (torch.cat([t.flatten().double().cpu() for t in side]) for side in zip(*pairs))
    both = ((manual != 0) & (autograd != 0)).nonzero()[:, 0]
    some = both[torch.randperm(len(both), generator=torch.Generator().manual_seed(0))[:POINTS]]
    manual, autograd = manual[some], autograd[some]
    same = manual.sign() == autograd.sign()
    style = dict(color=COLORS[dtype], markersize=4, alpha=0.6, linestyle="none")
    axis.plot(autograd[same].abs(), manual[same].abs(), ".", **style)
    axis.plot(autograd[~same].abs(), manual[~same].abs(), "x", **style)
