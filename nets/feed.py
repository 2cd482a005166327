"""An epoch's batches as the net wants them: chosen, varied, normalised, on the device."""

import torch

from nets import batches, color, stream
from nets.config import Config
from nets.data import Dataset
from nets.parallel import shares
from nets.parallel.world import World
from nets.selective import Selection


class Feed:
    """feed(epoch, start) yields (which samples (B), x as the net wants it, target) from batch `start` on.

    B: of `batch` samples the share of this process, all where it is alone.

    data: on the device. Everything that an epoch draws is a function of the seed and its number, but
    for who sits it out, which `selection` knows.
    """

    def __init__(self, config: Config, data: Dataset, device: torch.device, world: World = World()):
        self.config, self.data, self.device, self.world = config, data, device, world
        t = config.train
        self.n = len(data.train_y)
        self.batch = min(t.batch_size, self.n)
        self.dtype = getattr(torch, t.dtype)
        self.selection = Selection(self.n, t.skip, t.skip_after, device)
        self.axes = color.axes(data.train_x) if config.data.color_jitter else None

    def steps(self, epoch: int) -> int:
        """Steps in an epoch: a remainder that doesn't fill a batch sits it out."""
        return max(1, (self.n - self.selection.out(epoch)) // self.batch)

    def plan(self, epoch: int, again: bool = False) -> batches.Plan:
        """What the epoch draws. again: it has begun before, and who sits it out is known."""
        seed = self.config.seed
        self.selection.merge(self.world)
        plan = batches.plan(self.n, self.data.shape, self.config.data, seed, epoch, self.device)
        return self.selection.chosen(plan) if again else self.selection.choose(plan, seed, epoch)

    def __call__(self, epoch: int, start: int = 0):
        d = self.data
        plan = shares.part(self.plan(epoch, again=start > 0), self.batch, self.world)
        size = shares.rows(self.batch, self.world)
        samples = stream.feed(d.train_x, plan, size, self.config.seed, epoch, start, d.side)
        for i in range(start, len(plan.order) // size):
            part = plan.rows(i * size, (i + 1) * size)
            yield part.order, self._seen(part, next(samples), self._side(epoch)), d.train_y[part.order]

    def blank(self, epoch: int):
        """(x, target) made as those of the epoch are, of nothing: to get ready with."""
        d, size = self.data, self.batch
        c, *sides = d.shape
        kind = torch.uint8 if sides else torch.float32
        x = torch.zeros((size, *sides, c), dtype=kind, device=self.device)
        part = batches.plan(size, d.shape, self.config.data, 0, epoch, self.device)
        return self._seen(part, x, self._side(epoch)), torch.zeros_like(d.train_y[:size])

    def _side(self, epoch: int) -> int:
        """How large the epoch's pictures are; 0: as they come."""
        sizes = self.config.train.sizes
        return sizes[min(epoch, len(sizes) - 1)] if sizes else 0

    def _seen(self, part: batches.Plan, x, side: int):
        """Samples x as the net wants them, at side × side if one is given."""
        if x.dim() == 4:
            d = self.data
            x = batches.normalise(x, d.mean, d.std, self.dtype, self.config.train.channels_last)
            if part.color is not None:
                x = color.jitter(x, part.color, self.axes, d.std)
            if part.hole is not None:
                x = batches.blank(x, part.hole, self.config.data.cutout)
            if side and side != x.shape[-1]:
                x = batches.resize(x, side)
        return x.to(self.dtype)
