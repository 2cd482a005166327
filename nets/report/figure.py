"""Figures: learning curves, and five best guesses as bars, as in the AlexNet paper's figure 4."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nets.common.files import atomic_write
from nets.report.curves import Panel
from nets.training.evaluate import ranking

RIGHT, OTHER, EDGE = "#d1495b", "#6c8ebf", "#333333"


def curves(path, rows: list[dict], title: str):
    """Draw loss and error by epoch from the lines of metrics.jsonl that end one."""
    rows = [r for r in rows if "epoch" in r]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [r["epoch"] for r in rows]
    climbed = rows[0]["loss"] < 0
    left.plot(epochs, [r["loss"] for r in rows], color=OTHER)
    left.set(xlabel="epoch", ylabel="performance P" if climbed else "training loss")
    tested = [r for r in rows if "top1" in r]
    if tested:
        x = [r["epoch"] for r in tested]
        right.plot(epochs, [100 * (1 - r["train_top1"]) for r in rows], color=OTHER, label="training")
        for name, line in zip((n for n in tested[0] if n.startswith("top")), ("-", ":")):
            error = [100 * (1 - r[name]) for r in tested]
            if max(error):
                right.plot(x, error, line, color=RIGHT, label=f"test, {name.replace('top', 'top-')}")
        right.set(xlabel="epoch", ylabel="error / %")
        right.set_ylim(0, min(100, 1.1 * max(100 * (1 - r["top1"]) for r in tested) + 1))
        right.legend(frameon=False)
    else:
        tested = [r for r in rows if "largest_error" in r]
        right.plot([r["epoch"] for r in tested], [r["largest_error"] for r in tested], color=RIGHT)
        right.axhline(0.1, color=EDGE, lw=0.8, ls=":")
        right.set(xlabel="epoch", ylabel="largest error", ylim=(0, None))
    _finish(figure, path, title)


def by_step(path, panels: list[Panel], title: str):
    """Draw panels of curves, while a run goes on."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        for curve in panel.curves:
            test = curve.name == "test"
            style = {"color": RIGHT if test else OTHER, "marker": "o" if test and len(curve.x) < 50 else ""}
            axes.plot(curve.x, curve.y, ms=3, label=curve.name, **style)
        axes.set(xlabel="step", ylabel=panel.what, xlim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.legend(frameon=False)
    _finish(figure, path, title)


def picked(z, target, each: int = 5) -> tuple[list[int], list[int]]:
    """Indices of the most confident right answers and of the worst mistakes, by probability.

    Right answers: the highest probability, a class at most once while there are others.
    Mistakes: the lowest probability given to the true class.
    """
    p = torch.softmax(z, 1)
    true = p.gather(1, target[:, None])[:, 0]
    right = ranking(z)[:, 0] == target
    order = true.sort(descending=True, stable=True).indices.tolist()
    best, seen = [], set()
    for i in (i for i in order if right[i]):
        if int(target[i]) not in seen:
            seen.add(int(target[i]))
            best.append(i)
    best += [i for i in order if right[i] and i not in best[:each]][: max(0, each - len(best))]
    worst = [i for i in reversed(order) if not right[i]]
    return best[:each], worst[:each]


def top5(path, pictures, z, classes, labels=None, rows=None, captions=None):
    """Draw pictures with their five best guesses beneath.

    pictures  list of uint8 (H, W, C)
    z         logits, (len(pictures), classes)
    labels    true class indices, or None where they are not known
    captions  instead of labels: file names to write beneath
    rows      list of (title, indices of pictures); one row without a title by default
    """
    rows = rows or [("", list(range(i, min(i + 5, len(pictures))))) for i in range(0, len(pictures), 5)]
    rows = [row for row in rows if row[1]]
    width = max(len(indices) for _, indices in rows)
    p = torch.softmax(z, 1).cpu()
    ranked = ranking(p)[:, : min(5, len(classes))]
    figure = Figure(figsize=(1.9 * width + 0.4, 3.5 * len(rows)), layout="constrained")
    bands = np.atleast_1d(figure.subfigures(len(rows), 1))
    for band, (title, indices) in zip(bands, rows):
        band.suptitle(title, fontsize=11, x=0.01, ha="left")
        axes = band.subplots(2, width, squeeze=False, gridspec_kw={"height_ratios": [3, 2]})
        for column in range(width):
            above, below = axes[:, column]
            if column >= len(indices):
                above.axis("off")
                below.axis("off")
                continue
            i = indices[column]
            label = None if labels is None else int(labels[i])
            name = Path(captions[i]).name if captions else None if label is None else classes[label]
            _picture(above, pictures[i], name)
            _bars(below, p[i], ranked[i].tolist(), classes, label)
    save(figure, path)


def _picture(axes, pixels, name):
    pixels = np.asarray(pixels)
    axes.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    if name is not None:
        axes.set_xlabel(_short(name), fontsize=10, weight="bold", labelpad=3)


def _bars(axes, p, best, classes, label):
    heights = [float(p[k]) for k in best]
    places = range(len(best))
    colors = [RIGHT if k == label else OTHER for k in best]
    axes.barh(places, heights, color=colors, height=0.86, alpha=0.75)
    for place, k in zip(places, best):
        axes.text(0.03, place, f"{_short(classes[k])}", va="center", fontsize=8, color="black")
        axes.text(0.99, place, _percent(float(p[k])), va="center", ha="right", fontsize=7, color=EDGE)
    axes.set(xlim=(0, 1), ylim=(4.5, -0.5), xticks=[], yticks=[])
    if label is not None and label not in best:
        rank = 1 + int((p > p[label]).sum())
        text = f"{_short(classes[label])} is no. {rank}: {_percent(float(p[label]))}"
        axes.set_xlabel(text, fontsize=8, color=RIGHT)


def _percent(p: float) -> str:
    return "<0.1%" if 0 < p < 0.0005 else f"{p:.1%}"


def _short(name: str) -> str:
    name = str(name).replace("$", r"\$").replace("_", " ")
    return name if len(name) <= 18 else name[:17] + "…"


def _finish(figure, path, title: str):
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10, parse_math=False)  # a "$" is a "$"
    save(figure, path)


def save(figure, path, dpi: int = 110):
    """The same figure is the same bytes: no word of who wrote it."""
    with atomic_write(Path(path)) as part:
        figure.savefig(part, dpi=dpi, facecolor="white", format="png", metadata={"Software": None})
