"""Figures of a run: learning curves, and images with their five best guesses.

The guesses are drawn as in figure 4 of Krizhevsky et al. 2012.
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from nets.common.errors import printable
from nets.common.files import atomic_write
from nets.report.curves import Panel, finite
from nets.report.text import complete_fonts, cut
from nets.training.metrics import ranking

TEST, TRAINING, EDGE = "#d1495b", "#6c8ebf", "#333333"  # curves
# bars: light enough for black text to have a contrast of 4.5:1 and more
TRUE_BAR, TRUE_EDGE, OTHER_BAR = "#8fd0a5", "#1b5e3a", "#b3c6e5"
TRUE = "✓"  # the true class has a sign as well as a color
FEW = 50  # a curve of fewer points shows each of them


def curves(path, log_entries: list[dict], title: str):
    """Draw loss and error by epoch from a run's log."""
    epochs = [entry for entry in log_entries if "epoch" in entry]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    x, loss = _points(epochs, "loss")
    _curve(left, x, loss, color=TRAINING)
    left.set(xlabel="epoch", ylabel="performance P" if loss and loss[0] < 0 else "training loss")
    split = "val_" if any("val_" in name for entry in epochs for name in entry) else ""
    if any(f"{split}largest_error" in entry for entry in epochs):
        _curve(right, *_points(epochs, f"{split}largest_error"), color=TEST)
        right.axhline(0.1, color=EDGE, lw=0.8, ls=":")
        right.set(xlabel="epoch", ylabel="largest error", ylim=(0, None))
    else:
        _error_curves(right, epochs, split)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if len(epochs) == 1:
            axes.set_xlim(epochs[0]["epoch"] - 1, epochs[0]["epoch"] + 1)
    _finish(figure, path, title)


def _points(epochs: list[dict], key: str) -> tuple[list[int], list[float]]:
    """(epochs, values) of the entries that have a finite value."""
    found = [entry for entry in epochs if finite(entry, key) is not None]
    return [entry["epoch"] for entry in found], [entry[key] for entry in found]


def _curve(axes: Axes, x: list, y: list[float], line: str = "-", **style):
    axes.plot(x, y, line, marker="o" if len(x) < FEW else "", ms=3, **style)


def _error_curves(axes: Axes, epochs: list[dict], split: str):
    """split: "val_" for the scores on the validation split, "" for those on the test set."""
    x, top1 = _points(epochs, "train_top1")
    if x:
        _curve(axes, x, [100 * (1 - v) for v in top1], color=TRAINING, label="training")
    highest, tested = 0.0, "validation" if split else "test"
    for k, line in ((1, "-"), (5, ":")):
        x, values = _points(epochs, f"{split}top{k}")
        error = [100 * (1 - v) for v in values]
        if any(error) or (error and k == 1):
            _curve(axes, x, error, line, color=TEST, label=f"{tested}, top-{k}")
            highest = max(highest, *error)
    axes.set(xlabel="epoch", ylabel="error / %")
    if highest:
        axes.set_ylim(0, min(100, 1.1 * highest + 1))
    if axes.lines:
        axes.legend(frameon=False)


def by_step(path, panels: list[Panel], title: str):
    """Draw panels of curves over steps."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        for curve in panel.curves:
            test = curve.name in ("test", "validation")
            _curve(axes, curve.x, curve.y, color=TEST if test else TRAINING, label=curve.name)
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
    classes = [printable(name) for name in classes]
    p = torch.softmax(z, 1).cpu()
    ranked = ranking(p)[:, : min(5, len(classes))]
    figure = Figure(figsize=(1.9 * width + 0.4, 3.5 * len(groups)), layout="constrained")
    bands = figure.subfigures(len(groups), 1, squeeze=False)[:, 0]
    named = []
    for band, (title, indices) in zip(bands, groups):
        band.suptitle(title, fontsize=11, x=0.01, ha="left")
        axes = band.subplots(2, width, squeeze=False, gridspec_kw={"height_ratios": [3, 2]})
        for unused in axes[:, len(indices) :].flat:
            unused.axis("off")
        for (above, below), i in zip(axes.T, indices):
            label = None if labels is None else int(labels[i])
            name = Path(captions[i]).name if captions else None if label is None else classes[label]
            named.append((below, _image(above, images[i], name)))
            _bars(below, p[i], ranked[i].tolist(), classes, label)
    complete_fonts(figure)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")  # the widths are known and stay
    for below, caption in named:
        room = below.get_window_extent().width
        cut(caption, room)
        cut(below.xaxis.label, room)
        for name, share in zip(below.texts[::2], below.texts[1::2]):
            cut(name, share.get_window_extent().x0 - name.get_window_extent().x0 - 4)
    save(figure, path)


def _image(axes: Axes, pixels, name) -> Text:
    """Draw pixels (H, W, 1 or 3) and return the name below them."""
    pixels = np.asarray(pixels)
    axes.imshow(pixels[..., 0] if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    shown = "" if name is None else printable(name)
    return axes.set_xlabel(shown, fontsize=10, weight="bold", labelpad=3, parse_math=False)


def _bars(axes: Axes, p: Tensor, best: list[int], classes, label: int | None):
    """Draw the guesses' bars: each with a text of its class, and one of its probability."""
    heights = [float(p[k]) for k in best]
    fills = [TRUE_BAR if k == label else OTHER_BAR for k in best]
    edges = [TRUE_EDGE if k == label else OTHER_BAR for k in best]
    axes.barh(range(len(best)), heights, color=fills, edgecolor=edges, height=0.86)
    for place, k in enumerate(best):
        name = f"{TRUE} {classes[k]}" if k == label else classes[k]
        style: dict = dict(va="center", color="black", in_layout=False, parse_math=False)
        axes.text(0.03, place, name, fontsize=8, **style)
        axes.text(0.99, place, _percent(float(p[k])), fontsize=7, ha="right", **style)
    axes.set(xlim=(0, 1), ylim=(4.5, -0.5), xticks=[], yticks=[])
    if label is not None and label not in best:
        text = f"{TRUE} no. {1 + int((p > p[label]).sum())}: {_percent(float(p[label]))} {classes[label]}"
        axes.set_xlabel(text, fontsize=8, color=TRUE_EDGE, parse_math=False)


def _percent(p: float) -> str:
    return "<0.1%" if 0 < p < 0.0005 else f"{p:.1%}"


def _finish(figure, path, title: str):
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10, parse_math=False)  # "$" stays "$"
    save(figure, path)


def save(figure, path, dpi: int = 110):
    """Write a PNG. Equal figures give equal bytes: the software's version is left out."""
    complete_fonts(figure)
    with atomic_write(Path(path)) as part:
        figure.savefig(part, dpi=dpi, facecolor="white", format="png", metadata={"Software": None})
