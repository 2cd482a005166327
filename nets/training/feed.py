"""An epoch's batches as the net takes them: selected, augmented, normalized, on the device."""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor

from nets.data import augment, sampler, stream
from nets.data.datasets import Dataset
from nets.data.selection import Selection
from nets.training.config import Config
from nets.training.cuda_graph import Captured
from nets.training.evaluate import as_input
from nets.training.world import World

Batch = tuple[Tensor, Tensor, Tensor]


def rank_part(plan: sampler.EpochPlan, batch: int, world: World) -> sampler.EpochPlan:
    """This process's rows of every whole batch of a plan, one batch after another.

    All processes draw the same epoch, and each takes its rows of every batch: nothing is sent, and no
    sample is used twice. This process's batches have world.count(batch) samples. A remainder is left out.
    """
    if world.size == 1:
        return plan
    count = len(plan.order) // batch
    places = torch.arange(count * batch, device=plan.order.device).view(count, batch)
    return plan.select(places[:, world.share(batch)].reshape(-1))


class Feed:
    """feed(epoch, start) yields (indices (B), x as the net takes it, target) from batch `start` on.

    B is this process's share of `batch` samples, all of them for one process.

    data: on the device. All random draws of an epoch depend only on the seed and the epoch's number,
    except which samples are skipped: `selection` keeps that. On CUDA the next batch overwrites x and target.
    """

    fixed_shapes = True  # are an epoch's batches all of one shape?

    def __init__(self, config: Config, data: Dataset, device: torch.device, world: World = World()):
        self.config, self.data, self.device, self.world = config, data, device, world
        t = config.train
        self.n = len(data.train_y)
        self.batch = min(t.batch_size, self.n)
        self.dtype = getattr(torch, t.dtype)
        self.selection = Selection(self.n, t.skip_fraction, t.skip_after_epochs, device)
        self.axes: Tensor | None = None
        if config.augment.color_jitter:
            self.axes = augment.color_axes(cast(Tensor, data.train_x))
        self.side = 0  # of this epoch's images, 0: as they come
        graphs = device.type == "cuda" and world.size == 1
        self.make = Captured(self._make, list, lambda: self.side) if graphs else self._make

    def steps(self, epoch: int) -> int:
        """Steps in an epoch. A remainder that doesn't fill a batch is left out."""
        return max(1, (self.n - self.selection.num_skipped(epoch)) // self.batch)

    def plan(self, epoch: int, again: bool = False) -> sampler.EpochPlan:
        """The epoch's random draws. again: the epoch has started before, so its
        skipped samples are already selected."""
        c = self.config
        self.selection.synchronize(self.world)
        plan = sampler.epoch_plan(self.n, self.data.shape, c.data, c.augment, c.seed, epoch, self.device)
        return self.selection.drop_skipped(plan) if again else self.selection.select(plan, c.seed, epoch)

    def indices(self, epoch: int, step: int) -> list[int]:
        """Which samples are in the whole batch of an epoch that has begun."""
        rows = slice(step * self.batch, (step + 1) * self.batch)
        return self.plan(epoch, again=True).select(rows).order.tolist()

    def __call__(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        d, size = self.data, self.world.count(self.batch)
        plan = rank_part(self.plan(epoch, again=start > 0), self.batch, self.world)
        streamed = None
        if isinstance(d.train_x, stream.ImageStream):
            streamed = d.train_x.batches(plan, size, self.config.seed, epoch, start, d.crop_size)
        for i in range(start, len(plan.order) // size):
            part = plan.batch(i * size, (i + 1) * size)
            self.side = self._side(epoch)
            x, y = self._seen(part, next(streamed)) if streamed else self.make(*vars(part).values())
            yield part.order, x, y

    def blank(self, epoch: int) -> Batch:
        """A batch of the epoch's shapes, with any content: to prepare for it."""
        d, c, size = self.data, self.config, self.batch
        part = sampler.epoch_plan(size, d.shape, c.data, c.augment, 0, epoch, self.device)
        self.side = self._side(epoch)
        if not isinstance(d.train_x, stream.ImageStream):
            x, y = self.make(*vars(part).values())
            return part.order, x, y
        channels, h, w = d.shape
        x, y = self._seen(part, torch.zeros(size, h, w, channels, dtype=torch.uint8, device=self.device))
        return part.order, x, y

    def waited(self, seconds: float) -> dict[str, float]:
        """{"wait": share of these seconds in which the step waited for a stream's images}, else {}."""
        return stream.wait_share(self.data.train_x, seconds)

    def _side(self, epoch: int) -> int:
        sizes = self.config.train.progressive_sizes
        return sizes[min(epoch, len(sizes) - 1)] if sizes else 0

    def _make(self, *plan) -> tuple[Tensor, Tensor]:
        """The batch of a plan's parts, from memory: (x as the net takes it, target)."""
        part = sampler.EpochPlan(*plan)
        return self._seen(
            part, augment.crop_and_flip(cast(Tensor, self.data.train_x), part, self.data.crop_size)
        )

    def _seen(self, part: sampler.EpochPlan, x: Tensor) -> tuple[Tensor, Tensor]:
        """Samples x as the net takes them, at side × side if there is a side, and their targets."""
        d = self.data
        if d.mean is None or d.std is None:
            return as_input(x, self.dtype), d.train_y[part.order]
        x = augment.normalize(x, d.mean, d.std, self.dtype, self.config.train.channels_last)
        if part.color is not None and self.axes is not None:
            x = augment.color_jitter(x, part.color, self.axes, d.std)
        if part.hole is not None:
            x = augment.cutout(x, part.hole, self.config.augment.cutout)
        if self.side and self.side != x.shape[-1]:
            x = augment.resize(x, self.side)
        return x.to(self.dtype), d.train_y[part.order]
