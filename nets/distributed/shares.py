"""Which samples are this process's: of a batch to train on, and of a test set.

All processes draw the same epoch from seed and number, and each takes its rows of every batch, so
that nothing has to be said and no sample is seen twice.
"""

import torch
from torch import Tensor

from nets.common.errors import UsageError
from nets.data.sampler import EpochPlan
from nets.distributed.world import World


def check(batch: int, world: World):
    """UsageError where a batch is too small for every process to have a sample."""
    if batch < world.size:
        raise UsageError(f"train.batch_size: {batch} samples are too few for {world.size} processes")


def rows(batch: int, world: World) -> int:
    """How many samples of a batch are this process's."""
    mine = world.share(batch)
    return mine.stop - mine.start


def part(plan: EpochPlan, batch: int, world: World) -> EpochPlan:
    """This process's rows of every whole batch of a plan, one batch after another.

    Its batches of rows(batch, world) are parts of the plan's batches of `batch`; a remainder sits out.
    """
    if world.size == 1:
        return plan
    count = len(plan.order) // batch
    places = torch.arange(count * batch, device=plan.order.device).view(count, batch)
    return plan.select(places[:, world.share(batch)].reshape(-1))


def spread(f, n: int, world: World) -> Tensor:
    """f(slice) gives a row for each of n samples: every process asks for its share, and has all rows."""
    if n < world.size:
        return f(slice(0, n))  # too few to share
    return world.gather(f(world.share(n)), n)
