"""A validation split: a share of every class's training samples, held out to select a checkpoint by."""

import torch
from torch import Tensor


def split(y: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Indices (training, validation), each in order, the same for every seed of a run.

    y (N), int64, are classes, of each of which `share` is held out, rounded, and at least one sample stays;
    y (N, …), floats, are outputs.
    """
    classes = torch.zeros(len(y), dtype=torch.int64) if y.is_floating_point() else y
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    order = order[classes[order].argsort(stable=True)]  # by class, in random order within one
    counts = classes.bincount()
    place = torch.arange(len(y)) - (counts.cumsum(0) - counts)[classes[order]]
    held = (counts * share).round().minimum(counts - 1)[classes[order]]
    return order[place >= held].sort().values, order[place < held].sort().values
