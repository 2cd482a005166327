"""Figures of a benchmark: a race as bars, scaling as lines on logarithmic axes."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from nets.report.figure import save
from nets.report.tables import count, number, size

MANUAL, AUTOGRAD = ("#d1495b", "#e8a0a8", "#8f2636", "#c97b84"), ("#4a6fa5", "#a9c0de", "#274060", "#7d93b2")
EDGE = "#333333"


def colors(names: list[str]) -> list[str]:
    """A hue for each side, a shade for each mode."""
    return [(MANUAL if n.startswith("manual") else AUTOGRAD)[_shade(n)] for n in names]


def _shade(name: str) -> int:
    return ("-compiled" in name) + 2 * ("-graph" in name)


def race(path: Path, facts: dict):
    """Bars of time, with their quartiles, and of memory."""
    results = facts["forms"]
    figure = Figure(figsize=(11, 0.55 * len(results) + 1.9), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = [r["form"] for r in results]
    hatches = ["//" if n.endswith("+keep") else "" for n in names]
    bars = dict(color=colors(names), hatch=hatches, edgecolor="white", height=0.72)
    _time_bars(left, results, bars)
    left.set(yticks=range(len(names)), yticklabels=names)
    left.invert_yaxis()
    _memory_bars(right, results, bars)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    figure.suptitle(_title(facts), fontsize=11)
    save(figure, path, dpi=120)


def _time_bars(axes: Axes, results: list[dict], bars: dict):
    places, times = range(len(results)), [r["median_ms"] for r in results]
    axes.barh(places, times, **bars)
    below, above = ([abs(r["median_ms"] - r[k]) for r in results] for k in ("low_ms", "high_ms"))
    axes.errorbar(times, places, xerr=[below, above], fmt="none", ecolor=EDGE, capsize=4, lw=1.2)
    for place, result in zip(places, results):
        text = f"{number(result['median_ms'])} ms"
        if result.get("baseline", result["form"]) != result["form"]:
            text += f", {result['ratio']:.2f} × {result['baseline']}"
        _annotate(axes, result["high_ms"], place, text)
    axes.set_xlabel("milliseconds per step; whiskers: quartiles")
    axes.set_xlim(0, 1.5 * max(r["high_ms"] for r in results))


def _memory_bars(axes: Axes, results: list[dict], bars: dict):
    places, most = range(len(results)), max(r["total_bytes"] for r in results)
    unit, name = next((u for u in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if most >= u[0]), (1, "B"))
    persistent = [r["persistent_bytes"] / unit for r in results]
    axes.barh(places, persistent, color="#9a9a9a", height=0.72)
    axes.barh(places, [r["peak_bytes"] / unit for r in results], left=persistent, **bars)
    for place, result in zip(places, results):
        _annotate(axes, result["total_bytes"] / unit, place, size(result["total_bytes"]))
    axes.set_xlabel(f"peak memory of tensors, {name}; gray: weights, momentum, batch")
    axes.set_xlim(0, 1.25 * most / unit)


def _annotate(axes: Axes, x: float, y: float, text: str):
    """Text to the right of a bar's end."""
    axes.annotate(text, (x, y), (7, 0), textcoords="offset points", va="center", fontsize=9)


def scaling(path: Path, facts: dict):
    """Time (above) and memory (below) against batch, width and depth, with fitted exponents.

    A dashed line is the time at a constant rate of arithmetic.
    """
    found = facts["scaling"]
    figure = Figure(figsize=(4.4 * len(found), 7.2), layout="constrained")
    grid = figure.subplots(2, len(found), squeeze=False)
    for (above, below), (what, axis) in zip(grid.T, found.items()):
        _power_lines(above, axis, "median_ms", 1, "ms")
        _power_lines(below, axis, "total_bytes", 1e6, "memory")
        below.set_xlabel(what if what == "batch" else f"{what}, times the config's")
    grid[0, 0].set_ylabel("milliseconds per step")
    grid[1, 0].set_ylabel("peak memory of tensors, MB")
    figure.suptitle(_title(facts), fontsize=11)
    save(figure, path, dpi=120)


def _power_lines(axes: Axes, found: dict, key: str, unit: float, kind: str):
    """A line for each form on logarithmic axes, with its exponent in the legend."""
    points, at = found["points"], [p["size"] for p in found["points"]]
    names = [r["form"] for r in points[0]["forms"]]
    for i, (name, color) in enumerate(zip(names, colors(names))):
        results = [p["forms"][i] for p in points]
        label = f"{name}: {found['exponents'][name][kind]:.2f}"
        style: dict = dict(color=color, label=label, marker="os^D"[_shade(name)], ms=4)
        axes.plot(at, [r[key] / unit for r in results], ":" if name.endswith("+keep") else "-", **style)
        if kind == "ms":
            low, high = ([r[k] for r in results] for k in ("low_ms", "high_ms"))
            axes.fill_between(at, low, high, color=color, alpha=0.15, lw=0)
    if kind == "ms":
        least = min(p["forms"][i]["median_ms"] / p["flops"] for p in points for i in range(len(names)))
        label = f"arithmetic: {found['exponents']['flops']:.2f}"
        axes.plot(at, [least * p["flops"] for p in points], "--", color="gray", lw=1, label=label)
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(at, [f"{s:g}" for s in at])
    axes.xaxis.set_minor_formatter(NullFormatter())
    _plain_ticks(axes.yaxis)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, title="exponent", title_fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _plain_ticks(axis):
    """Ticks at 1, 2, 5, 10 and so on: more on a short axis, fewer on a long one."""
    low, high = axis.get_view_interval()
    few, some, many = (1,), (1, 2, 5), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    steps = many if high < 8 * low else some if high < 200 * low else few
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_minor_locator(LogLocator(subs=()))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set_minor_formatter(NullFormatter())


def _title(facts: dict) -> str:
    title = f"{facts['config']}, {facts['dtype']}, on {facts['device']}"
    if "flops" in facts:
        title += f": a step of {facts['batch']} samples, {count(facts['flops'])}FLOP"
    return title
