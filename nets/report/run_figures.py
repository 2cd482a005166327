"""The figures of a finished run: its curves, and its best and worst guesses."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from nets.common.errors import describe
from nets.data.datasets import Dataset
from nets.training.hooks import Hook


class Figures(Hook):
    """A hook that draws curves.png and, for images, top5.png in the run's folder at the end.

    A figure that can't be drawn is one line on stderr.
    """

    def after_result(self, run):
        if run.out is None or not run.world.is_main:
            return
        for name, draw in (("top5.png", _top5), ("curves.png", _curves)):
            try:
                draw(run, run.out / name)
            except Exception as e:  # the result is worth more than a picture of it
                tqdm.write(f"note: {run.out / name} can't be drawn: {describe(e)}", sys.stderr)


def _top5(run, path: Path):
    from nets.report import figure  # imports matplotlib, which takes half a second

    d, z = run.data, run.evaluator.z
    if d.classes and z is not None and d.test_y is not None:
        z, y = z.cpu(), d.test_y.cpu()
        best, worst = figure.best_and_worst(z, y)
        index = best + worst
        titled = [("The most confident right answers", best), ("The worst mistakes", worst)]
        titled = [(title, [index.index(i) for i in row]) for title, row in titled]
        images = pixels(d, index)
        if images is not None:
            figure.top5(path, images, z[index], d.classes, y[index].tolist(), titled)


def _curves(run, path: Path):
    from nets.report import figure

    figure.curves(path, run.history, run.config.name)


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
