"""Figures of a run: learning curves, and images with their five best guesses.

The guesses are drawn as in figure 4 of Krizhevsky et al. 2012.
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from nets.common.files import atomic_write
from nets.report.curves import Panel
from nets.training.metrics import ranking

RIGHT, OTHER, EDGE = "#d1495b", "#6c8ebf", "#333333"


def curves(path, log_entries: list[dict], title: str):
    """Draw loss and error by epoch from a run's log."""
    epochs = [entry for entry in log_entries if "epoch" in entry]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    maximized = epochs[0]["loss"] < 0
    left.plot(*_points(epochs, "loss"), color=OTHER)
    left.set(xlabel="epoch", ylabel="performance P" if maximized else "training loss")
    split = "val_" if any("val_" in name for entry in epochs for name in entry) else ""
    if any(f"{split}top1" in entry for entry in epochs):
        _error_curves(right, epochs, split)
    else:
        right.plot(*_points(epochs, f"{split}largest_error"), color=RIGHT)
        right.axhline(0.1, color=EDGE, lw=0.8, ls=":")
        right.set(xlabel="epoch", ylabel="largest error", ylim=(0, None))
    _finish(figure, path, title)


def _points(epochs: list[dict], key: str) -> tuple[list[int], list[float]]:
    """(epochs, values) of the entries that have the key."""
    found = [entry for entry in epochs if key in entry]
    return [entry["epoch"] for entry in found], [entry[key] for entry in found]


def _error_curves(axes: Axes, epochs: list[dict], split: str):
    """split: "val_" for the scores on the validation split, "" for those on the test set."""
    name, first = "validation" if split else "test", f"{split}top1"
    tested = [entry for entry in epochs if first in entry]
    x, top1 = _points(epochs, "train_top1")
    axes.plot(x, [100 * (1 - v) for v in top1], color=OTHER, label="training")
    for key, line in zip((n for n in tested[0] if n.startswith(f"{split}top")), ("-", ":")):
        error = [100 * (1 - entry[key]) for entry in tested]
        if max(error):
            x, label = [entry["epoch"] for entry in tested], key.removeprefix(split).replace("top", "top-")
            axes.plot(x, error, line, color=RIGHT, label=f"{name}, {label}")
    axes.set(xlabel="epoch", ylabel="error / %")
    axes.set_ylim(0, min(100, 1.1 * max(100 * (1 - entry[first]) for entry in tested) + 1))
    axes.legend(frameon=False)


def by_step(path, panels: list[Panel], title: str):
    """Draw panels of curves over steps."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        for curve in panel.curves:
            test = curve.name in ("test", "validation")
            style = {"color": RIGHT if test else OTHER, "marker": "o" if test and len(curve.x) < 50 else ""}
            axes.plot(curve.x, curve.y, ms=3, label=curve.name, **style)
        axes.set(xlabel="step", ylabel=panel.label, xlim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.legend(frameon=False)
    _finish(figure, path, title)


def best_and_worst(z: Tensor, target: Tensor, each: int = 5) -> tuple[list[int], list[int]]:
    """Indices of the most confident right answers, and of the worst mistakes.

    Right answers: the highest probability, each class once before any class twice. Mistakes: the
    lowest probability of the true class.
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


def top5(path, images, z, classes, labels=None, groups=None, captions=None):
    """Draw images, each with its five best guesses below it.

    images    list of uint8 (H, W, C)
    z         logits, (len(images), classes)
    labels    true class indices, or None if they are unknown
    groups    list of (title, indices of images), one row each; by default rows of five without a title
    captions  file names to write below the images, if there are no labels
    """
    groups = groups or [("", list(range(i, min(i + 5, len(images))))) for i in range(0, len(images), 5)]
    groups = [group for group in groups if group[1]]
    width = max(len(indices) for _, indices in groups)
    p = torch.softmax(z, 1).cpu()
    ranked = ranking(p)[:, : min(5, len(classes))]
    figure = Figure(figsize=(1.9 * width + 0.4, 3.5 * len(groups)), layout="constrained")
    bands = figure.subfigures(len(groups), 1, squeeze=False)[:, 0]
    for band, (title, indices) in zip(bands, groups):
        band.suptitle(title, fontsize=11, x=0.01, ha="left")
        axes = band.subplots(2, width, squeeze=False, gridspec_kw={"height_ratios": [3, 2]})
        for unused in axes[:, len(indices) :].flat:
            unused.axis("off")
        for (above, below), i in zip(axes.T, indices):
            label = None if labels is None else int(labels[i])
            name = Path(captions[i]).name if captions else None if label is None else classes[label]
            _image(above, images[i], name)
            _bars(below, p[i], ranked[i].tolist(), classes, label)
    save(figure, path)


def _image(axes, pixels, name):
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
    figure.suptitle(title, fontsize=10, parse_math=False)  # "$" stays "$"
    save(figure, path)


def save(figure, path, dpi: int = 110):
    """Write a PNG. Equal figures give equal bytes: the software's version is left out."""
    with atomic_write(Path(path)) as part:
        figure.savefig(part, dpi=dpi, facecolor="white", format="png", metadata={"Software": None})
