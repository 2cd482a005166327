"""Do a config, its data and its net fit together? Asked before a run writes anything."""

import torch

from nets.common.errors import Problem, UsageError
from nets.data.datasets import Dataset
from nets.training.build import build
from nets.training.config import Config


def check_variation(config: Config, data: Dataset):
    """UsageError where training samples can't be augmented as the config asks."""
    d, a, t, shape = config.data, config.augment, config.train, data.shape
    varied = {f"augment.{k}": v for k, v in vars(a).items()} | {"augment.flip": a.flip != "none"}
    varied |= {"data.crop_size": d.crop_size}
    for name, wanted in varied.items():
        if wanted and len(shape) != 3:
            raise UsageError(f"{name}: {d.source} has no pictures")
        if wanted and t.optimizer == "adaptive":
            raise UsageError(f"{name}: the adaptive optimizer needs the same samples every time")
    for name, wanted in {"progressive_sizes": t.progressive_sizes, "skip_fraction": t.skip_fraction}.items():
        if wanted and (len(shape) != 3 or t.optimizer == "adaptive"):
            raise UsageError(f"train.{name}: only for pictures, and not with the adaptive optimizer")
    if config.eval.tta != "none" and len(shape) != 3:
        raise UsageError(f"eval.tta: {d.source} has no pictures")
    if a.color_jitter and shape[0] != 3:
        raise UsageError("augment.color_jitter: gray pictures have no colors")
    if a.crop_padding and a.crop_padding >= min(shape[1:]):
        size = f"{shape[2]} × {shape[1]}"
        raise UsageError(f"augment.crop_padding: {a.crop_padding} is too much for pictures of {size}")


def check_batch(config: Config, shape, batch: int, n: int):
    """UsageError where the optimizer or a layer can't take such a batch, at any of train.progressive_sizes."""
    if config.train.optimizer == "adaptive" and batch < n:
        raise UsageError(f"train.batch_size: the adaptive optimizer needs all {n} samples at once")
    with torch.device("meta"):
        stand_in, _ = build(config.net.layers, shape)
        stand_in.forward(torch.empty(batch, *shape))
        for i, side in enumerate(config.train.progressive_sizes):
            try:
                stand_in.forward(torch.empty(batch, shape[0], side, side))
            except (RuntimeError, ValueError, Problem) as e:
                reason = str(e).splitlines()[0]
                where = f"train.progressive_sizes[{i}]"
                raise UsageError(f"{where}: the net can't take {side} × {side}: {reason}") from None
