"""An epoch's batches as the net wants them: chosen, varied, normalized, on the device."""

import torch

from nets.data import augment, sampler, stream
from nets.data.datasets import Dataset
from nets.data.selection import Selection
from nets.distributed import shares
from nets.distributed.world import World
from nets.training.config import Config
from nets.training.cuda_graph import Captured


class Feed:
    """feed(epoch, start) yields (which samples (B), x as the net wants it, target) from batch `start` on.

    B: of `batch` samples the share of this process, all where it is alone.

    data: on the device. Everything that an epoch draws is a function of the seed and its number, but
    for who sits it out, which `selection` knows. On CUDA x and target are overwritten by the next.
    """

    def __init__(self, config: Config, data: Dataset, device: torch.device, world: World = World()):
        self.config, self.data, self.device, self.world = config, data, device, world
        t = config.train
        self.n = len(data.train_y)
        self.batch = min(t.batch_size, self.n)
        self.dtype = getattr(torch, t.dtype)
        self.selection = Selection(self.n, t.skip_fraction, t.skip_after_epochs, device)
        self.axes = augment.color_axes(data.train_x) if config.augment.color_jitter else None
        self.side, self.made = 0, self._made
        if device.type == "cuda" and world.size == 1:
            self.made = Captured(self._made, list, lambda: self.side)

    def steps(self, epoch: int) -> int:
        """Steps in an epoch: a remainder that doesn't fill a batch sits it out."""
        return max(1, (self.n - self.selection.num_skipped(epoch)) // self.batch)

    def plan(self, epoch: int, again: bool = False) -> sampler.EpochPlan:
        """What the epoch draws. again: it has begun before, and who sits it out is known."""
        seed = self.config.seed
        self.selection.synchronize(self.world)
        c = self.config
        plan = sampler.epoch_plan(self.n, self.data.shape, c.data, c.augment, seed, epoch, self.device)
        return self.selection.drop_skipped(plan) if again else self.selection.select(plan, seed, epoch)

    def __call__(self, epoch: int, start: int = 0):
        d, size = self.data, shares.rows(self.batch, self.world)
        plan = shares.part(self.plan(epoch, again=start > 0), self.batch, self.world)
        streamed = isinstance(d.train_x, stream.ImageStream)
        if streamed:
            samples = d.train_x.batches(plan, size, self.config.seed, epoch, start, d.crop_size)
        for i in range(start, len(plan.order) // size):
            part = plan.batch(i * size, (i + 1) * size)
            self.side = self._side(epoch)
            made = self._seen(part, next(samples)) if streamed else self.made(*vars(part).values())
            yield part.order, *made

    def blank(self, epoch: int):
        """A batch made as those of the epoch are, whatever it shows: to get ready with."""
        d, size = self.data, self.batch
        c = self.config
        part = sampler.epoch_plan(size, d.shape, c.data, c.augment, 0, epoch, self.device)
        self.side = self._side(epoch)
        if not isinstance(d.train_x, stream.ImageStream):
            return part.order, *self.made(*vars(part).values())
        c, h, w = d.shape
        return part.order, *self._seen(
            part, torch.zeros(size, h, w, c, dtype=torch.uint8, device=self.device)
        )

    def _side(self, epoch: int) -> int:
        """How large the epoch's pictures are; 0: as they come."""
        sizes = self.config.train.progressive_sizes
        return sizes[min(epoch, len(sizes) - 1)] if sizes else 0

    def _made(self, *plan):
        """The batch of a plan's parts, from memory: (x as the net wants it, target)."""
        part = sampler.EpochPlan(*plan)
        return self._seen(part, augment.crop_and_flip(self.data.train_x, part, self.data.crop_size))

    def _seen(self, part: sampler.EpochPlan, x):
        """Samples x as the net wants them, at side × side if there is a side, and their targets."""
        d, side = self.data, self.side
        if x.dim() == 4:
            x = augment.normalize(x, d.mean, d.std, self.dtype, self.config.train.channels_last)
            if part.color is not None:
                x = augment.color_jitter(x, part.color, self.axes, d.std)
            if part.hole is not None:
                x = augment.cutout(x, part.hole, self.config.augment.cutout)
            if side and side != x.shape[-1]:
                x = augment.resize(x, side)
        return x.to(self.dtype), d.train_y[part.order]
