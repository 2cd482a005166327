"""Plots: a race as bars, scaling as lines on two logarithmic axes."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from nets.report.figure import save
from nets.report.tables import count, number, size

MANUAL, AUTOGRAD = ("#d1495b", "#e8a0a8", "#8f2636", "#c97b84"), ("#4a6fa5", "#a9c0de", "#274060", "#7d93b2")
EDGE = "#333333"


def colors(names: list[str]) -> list[str]:
    """A hue for each side, a shade for each way."""
    return [(MANUAL if n.startswith("manual") else AUTOGRAD)[_shade(n)] for n in names]


def _shade(name: str) -> int:
    return ("-compiled" in name) + 2 * ("-graph" in name)


def race(path: Path, facts: dict):
    """Bars of time, with their quartiles, and of memory."""
    rows = facts["forms"]
    names = [r["form"] for r in rows]
    figure = Figure(figsize=(11, 0.55 * len(rows) + 1.9), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    places, shades = range(len(rows)), colors(names)
    hatches = ["//" if n.endswith("+keep") else "" for n in names]
    times = [r["median_ms"] for r in rows]
    left.barh(places, times, color=shades, hatch=hatches, edgecolor="white", height=0.72)
    spread = [[r["median_ms"] - r["low_ms"] for r in rows], [r["high_ms"] - r["median_ms"] for r in rows]]
    left.errorbar(times, places, xerr=spread, fmt="none", ecolor=EDGE, capsize=4, lw=1.2)
    for place, row in zip(places, rows):
        text = f"{number(row['median_ms'])} ms"
        if row.get("baseline", row["form"]) != row["form"]:
            text += f", {row['ratio']:.2f} × {row['baseline']}"
        _tell(left, row["high_ms"], place, text)
    left.set(yticks=list(places), yticklabels=names, xlabel="milliseconds a step; whiskers: quartiles")
    left.set_xlim(0, 1.5 * max(r["high_ms"] for r in rows))
    left.invert_yaxis()
    most = max(r["total_bytes"] for r in rows)
    unit, name = next((u for u in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if most >= u[0]), (1, "B"))
    standing = [r["persistent_bytes"] / unit for r in rows]
    above = [r["peak_bytes"] / unit for r in rows]
    right.barh(places, standing, color="#9a9a9a", height=0.72)
    right.barh(places, above, left=standing, color=shades, hatch=hatches, edgecolor="white", height=0.72)
    for place, row in zip(places, rows):
        _tell(right, row["total_bytes"] / unit, place, size(row["total_bytes"]))
    right.set_xlabel(f"peak memory of tensors, {name}; gray: weights, momentum, batch")
    right.set_xlim(0, 1.25 * most / unit)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    figure.suptitle(_title(facts), fontsize=11)
    save(figure, path, dpi=120)


def _tell(axes, x: float, y: float, text: str):
    """Words behind the end of a bar."""
    axes.annotate(text, (x, y), (7, 0), textcoords="offset points", va="center", fontsize=9)


def scaling(path: Path, facts: dict):
    """Time above, memory below, against batch, width and depth; dashed, what the arithmetic would do."""
    axes_found = facts["scaling"]
    figure = Figure(figsize=(4.4 * len(axes_found), 7.2), layout="constrained")
    grid = figure.subplots(2, len(axes_found), squeeze=False)
    for column, (what, found) in zip(grid.T, axes_found.items()):
        points, at = found["points"], [p["size"] for p in found["points"]]
        names = [r["form"] for r in points[0]["forms"]]
        for axes, key, unit, kind in zip(column, ("median_ms", "total_bytes"), (1, 1e6), ("ms", "memory")):
            for i, (name, color) in enumerate(zip(names, colors(names))):
                rows = [p["forms"][i] for p in points]
                y = [r[key] / unit for r in rows]
                power = found["exponents"][name][kind]
                style = dict(color=color, label=f"{name}: {power:.2f}", marker="os^D"[_shade(name)], ms=4)
                axes.plot(at, y, ":" if name.endswith("+keep") else "-", **style)
                if kind == "ms":
                    low, high = ([r[k] for r in rows] for k in ("low_ms", "high_ms"))
                    axes.fill_between(at, low, high, color=color, alpha=0.15, lw=0)
            if kind == "ms":
                low = min(p["forms"][i]["median_ms"] / p["flops"] for p in points for i in range(len(names)))
                label = f"arithmetic: {found['exponents']['flops']:.2f}"
                axes.plot(at, [low * p["flops"] for p in points], "--", color="gray", lw=1, label=label)
            axes.set(xscale="log", yscale="log")
            axes.set_xticks(at, [f"{s:g}" for s in at])
            axes.xaxis.set_minor_formatter(NullFormatter())
            _plain_ticks(axes.yaxis)
            axes.grid(alpha=0.25)
            axes.legend(fontsize=8, title="exponent", title_fontsize=8)
            axes.spines[["top", "right"]].set_visible(False)
        column[1].set_xlabel(what if what == "batch" else f"{what}, times the config's")
    grid[0, 0].set_ylabel("milliseconds a step")
    grid[1, 0].set_ylabel("peak memory of tensors, MB")
    figure.suptitle(_title(facts), fontsize=11)
    save(figure, path, dpi=120)


def _plain_ticks(axis):
    """1, 2, 5, 10 and so on; more of them where the axis is short, fewer where it is long."""
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
