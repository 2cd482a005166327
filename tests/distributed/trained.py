"""A small net trained by several processes or by one, and comparisons of the two."""

import torch

from nets.data import sampler
from nets.distributed.backward import Backward, local_statistics, weight
from nets.distributed.buckets import Reducer
from nets.distributed.shard import Scatterer, ShardedSGD
from nets.distributed.sync_norm import synchronize
from nets.losses import CrossEntropyLoss, MSELoss
from nets.optim.sgd import SGD
from nets.training.build import build
from nets.training.feed import rank_part
from nets.training.guard import Guard
from nets.training.step import train_step
from nets.training.world import World

CLOSE = 1e-10
CONV = {"type": "Conv2d", "out_channels": 4, "kernel_size": 3, "padding": 1}
LAYERS = [
    CONV,
    "BatchNorm2d",
    "GELU",
    {"type": "Residual", "body": [CONV, "BatchNorm2d"]},
    {"type": "MaxPool2d", "kernel_size": 2},
    {"type": "Conv2d", "out_channels": 6, "kernel_size": 3},
    "BatchNorm2d",
    "GlobalAvgPool",
    {"type": "Linear", "out_features": 3},
]
GROUPS = ({"match": ["*.bias"], "lr_scale": 2.0, "weight_decay": 0.0, "momentum": 0.5},)
SETTINGS = {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01, "param_groups": GROUPS}
N, BATCH = 25, 11  # two batches an epoch, three samples left over, and no whole share for 2 or 4 processes


def samples(device):
    draws = torch.Generator().manual_seed(5)
    x = torch.randn(N, 3, 8, 8, generator=draws, dtype=torch.float64) * 2 + 3
    return x.to(device), torch.randint(3, (N,), generator=draws).to(device)


class Trained:
    """A small net after some steps on `world`, which may be one process; also its state and its results."""

    def __init__(self, world, kind=SGD, loss=CrossEntropyLoss(0.1), norm="sync", frozen=(), mb=0.001,
                 wire=None, epochs=1, skip=False, poison=None, state=None, batch=BATCH):  # fmt: skip
        torch.manual_seed(3)
        self.net = build(LAYERS, (3, 8, 8))[0].to(world.device, torch.float64)
        if norm == "sync":
            synchronize(self.net, world)
        x, y = samples(world.device)
        if isinstance(loss, MSELoss):
            y = torch.nn.functional.one_hot(y, 3).double()
        backward = None
        if kind is ShardedSGD:
            reducer = Scatterer(self.net.params, world, mb, wire)
            self.optimizer = ShardedSGD(reducer, maximize=loss.maximize, **SETTINGS)
        else:
            reducer = Reducer(self.net.params, world, mb, wire)
            self.optimizer = kind(self.net.params, maximize=loss.maximize, **SETTINGS)
        for w in self.net.params.values() if state else ():
            w.mul_(1.1)  # as a checkpoint would
        if state and kind is ShardedSGD:
            self.optimizer.load(state)
        for name, v in self.optimizer.state().items() if state and kind is not ShardedSGD else ():
            v.copy_(state[name])
        rows = world.count(batch)
        if world.size > 1:
            statistics = local_statistics(self.net)
            assert bool(statistics) == (norm == "local")
            backward = Backward(reducer, weight(loss, rows, batch), rows / batch, statistics)
        self.guard = Guard("skip", world.device, *([world.all_true] if kind is ShardedSGD else []))
        step = train_step(self.net, loss, self.optimizer, skip, self.guard, backward)
        self.results, self.scores = [], torch.full((N,), -1.0, device=world.device)
        counts = torch.linspace(0.5, 2, N, dtype=torch.float64, device=world.device)
        for epoch in range(epochs):
            plan = sampler.EpochPlan(
                torch.randperm(N, generator=sampler.epoch_generator(0, epoch)).to(world.device)
            )
            bad = plan.order[batch - 1] if poison == epoch else -1  # in the last process's rows
            plan = rank_part(plan, batch, world)
            seen = torch.zeros(N, dtype=torch.bool, device=world.device)
            for i in range(N // batch):
                which = plan.batch(i * rows, (i + 1) * rows).order
                xs = x[which]
                xs[which == bad] = torch.inf
                weights = counts[which] if skip else None
                result = step(xs, y[which], 0.5, weights, frozenset(frozen))
                if skip:
                    self.scores[which] = result.scores
                seen[which] = True
                self.results.append(torch.stack([t.double() for t in result[:3]]))
            world.merge(self.scores, seen)

    def kept(self) -> dict:
        """Parameters, statistics and momentum by name."""
        return {**self.net.params, **self.net.buffers, **self.optimizer.state()}


def near(a, b, what, tolerance=CLOSE):
    a, b = a.double().cpu(), b.double().cpu()
    assert a.shape == b.shape, what
    off = torch.where(a.isnan() & b.isnan(), 0, a - b).abs().max().item() if a.numel() else 0.0
    assert off <= tolerance, f"{what}: off by {off:.1e}"


def same_as_one(world, **options):
    """After several steps everything is as one process makes it of the whole batches: returns that one's run
    (the first process's alone) and this one's."""
    many, one = Trained(world, **options), None
    kept = many.kept()  # a sharded one's is whole on the first process alone
    same_on_all(world, many.net.params | many.net.buffers)
    if world.is_main:
        alone = {"kind": SGD} if options.get("kind") is ShardedSGD else {}
        one = Trained(World(device=world.device), **options | alone)
        for i, (a, b) in enumerate(zip(one.results, many.results, strict=True)):
            near(a, b, f"loss, num_correct and ok of step {i}")
        assert one.kept().keys() == kept.keys()
        for name, t in one.kept().items():
            near(kept[name], t, name)
    return one, many


def same_on_all(world, tensors):
    """To the last bit."""
    for name, t in tensors.items():
        every = world.gather(t.double().reshape(1, -1), world.size)
        assert (every == every[0]).all(), f"{name} isn't the same on all ranks"
