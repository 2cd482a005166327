"""Do a config, its data and its net fit together? Asked before a run writes anything."""

import torch

from nets.common.errors import Problem, UsageError
from nets.data.datasets import Dataset
from nets.training.build import build
from nets.training.config import Config


def check_variation(config: Config, data: Dataset):
    """UsageError where training samples can't be varied as [data] asks."""
    d, t, shape = config.data, config.train, data.shape
    varied = {"crop": d.crop, "cutout": d.cutout, "flip": d.flip != "none"}
    varied |= {"crop_size": d.crop_size, "color_jitter": d.color_jitter, "random_resized": d.random_resized}
    for name, wanted in varied.items():
        if wanted and len(shape) != 3:
            raise UsageError(f"data.{name}: {d.source} has no pictures")
        if wanted and t.optimizer == "adaptive":
            raise UsageError(f"data.{name}: the adaptive optimizer needs the same samples every time")
    for name, wanted in {"sizes": t.sizes, "skip": t.skip}.items():
        if wanted and (len(shape) != 3 or t.optimizer == "adaptive"):
            raise UsageError(f"train.{name}: only for pictures, and not with the adaptive optimizer")
    if config.eval.views != "one" and len(shape) != 3:
        raise UsageError(f"eval.views: {d.source} has no pictures")
    if d.color_jitter and shape[0] != 3:
        raise UsageError("data.color_jitter: gray pictures have no colors")
    if d.crop and d.crop >= min(shape[1:]):
        raise UsageError(f"data.crop: {d.crop} is too much for pictures of {shape[2]} × {shape[1]}")


def check_batch(config: Config, shape, batch: int, n: int):
    """Does the optimizer take batches of this size out of n samples, and every layer, at every size in train.sizes?"""
    if config.train.optimizer == "adaptive" and batch < n:
        raise UsageError(f"train.batch_size: the adaptive optimizer needs all {n} samples at once")
    with torch.device("meta"):
        stand_in, _ = build(config.net.layers, shape)
        stand_in.forward(torch.empty(batch, *shape))
        for i, side in enumerate(config.train.sizes):
            try:
                stand_in.forward(torch.empty(batch, shape[0], side, side))
            except (RuntimeError, ValueError, Problem) as e:
                reason = str(e).splitlines()[0]
                raise UsageError(f"train.sizes[{i}]: the net can't take {side} × {side}: {reason}") from None
