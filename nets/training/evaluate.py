"""Evaluation: a net's outputs for samples, in evaluation mode."""

import torch
from torch import Tensor
from tqdm import tqdm

from nets.data.augment import normalize
from nets.data.datasets import Dataset
from nets.data.stream import ImageStream
from nets.data.tta import least_certain, predict_tta
from nets.layers.base import Layer, sum_dtype
from nets.training.config import Eval
from nets.training.world import World


def outputs(
    net: Layer,
    x: Tensor | ImageStream,
    data: Dataset,
    dtype: torch.dtype,
    channels_last: bool,
    bar: bool = False,
    settings: Eval = Eval(),
    before_batch=lambda: None,
    world: World = World(),
) -> Tensor:
    """The net's output for x in evaluation mode, (N, outputs), at least float32; see nets/data/tta.py.

    bar: show a progress bar on a terminal. before_batch: called before each batch; it may raise.
    world: each process evaluates its share of the samples and gets all outputs.
    """
    before = net.training
    net.eval()

    most = 2**21 if x.device.type == "cpu" else 2**23  # numbers in a batch: 682 of CIFAR's images, or 2,730
    some = max(1, most // max(1, x[:1].numel()))

    def answers(samples, views: str) -> Tensor:
        parts = []
        for xs in tqdm(samples, "evaluate", disable=None if bar else True, leave=False):
            before_batch()
            if data.mean is not None and data.std is not None:
                xs = normalize(xs, data.mean, data.std, dtype, channels_last)
                parts.append(predict_tta(net, xs, views, data.crop_size))
            else:
                z = net.forward(as_input(xs, dtype))[0]
                parts.append(z.to(sum_dtype(z)))
        return torch.cat(parts)

    try:
        first = "none" if settings.tta_fraction < 1 else settings.tta
        z = world.map_shares(lambda rows: answers(split(x, some, rows), first), len(x))
        if settings.tta != "none" and settings.tta_fraction < 1:
            again = least_certain(z, settings.tta_fraction)
            if len(again):
                parts = lambda rows: map(x.__getitem__, again[rows].split(some))  # noqa: E731
                z[again] = world.map_shares(lambda rows: answers(parts(rows), settings.tta), len(again))
    finally:
        net.train(before)
    return z


def as_input(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Samples that aren't images, as the net takes them: floats in dtype, whole numbers as they are."""
    return x.to(dtype) if x.is_floating_point() else x


def split(x, some: int, rows: slice):
    """The rows of x, a tensor or a stream, some at a time."""
    if isinstance(x, ImageStream):
        return x.split(some, range(len(x))[rows])
    return x[rows].split(some)
