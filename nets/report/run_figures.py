"""The figures of a finished run: its curves, and its best and worst guesses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from nets.common.errors import describe, printable
from nets.data.datasets import Dataset
from nets.training.hooks import Hook


class Figures(Hook):
    """A hook that draws curves.png and, for images, top5.png in the run's folder, once it has its result."""

    def after_result(self, run):
        if run.out is None or not run.world.is_main:
            return
        attempt(run.out / "top5.png", lambda file: _guesses(file, run))
        attempt(run.out / "curves.png", lambda file: _curves(file, run))


def attempt(file: Path, draw: Callable[[Path], None]):
    """Draw a figure. If it can't be drawn, a note says why: what it shows is in other files, or printed."""
    try:
        draw(file)
    except Exception as e:
        tqdm.write("note: " + printable(f"{file} can't be drawn: {describe(e)}"), sys.stderr)


def _guesses(file: Path, run):
    d, z = run.data, run.evaluator.z
    if not d.classes or z is None or d.test_y is None:
        return
    from nets.report import figure  # imports matplotlib, which takes half a second

    z, y = z.cpu(), d.test_y.cpu()
    best, worst = figure.best_and_worst(z, y)
    index = best + worst
    titled = [("The most confident right answers", best), ("The worst mistakes", worst)]
    titled = [(title, [index.index(i) for i in row]) for title, row in titled]
    images = pixels(d, index)
    if images is not None:
        figure.top5(file, images, z[index], d.classes, y[index].tolist(), titled)


def _curves(file: Path, run):
    from nets.report import figure

    figure.curves(file, run.history, run.config.name)


def pixels(data: Dataset, index: list[int]) -> np.ndarray | None:
    """Test images as uint8 (N, H, W, C); None if the samples are no images.

    Float samples (N, 1 or 3, H, W) are images too: their range becomes 0 to 255.
    """
    if data.test_x is None:
        return None
    x = data.test_x[index].cpu()
    if data.mean is not None:
        return x.numpy()
    if x.dim() != 4 or x.shape[1] not in (1, 3) or not x.is_floating_point():
        return None
    low, high = x.min(), x.max()
    x = (x - low) / (high - low).clamp(min=1e-12) * 255
    return x.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
