"""Measures what sums over processes cost, and how much of them backward hides.

It times sums of several sizes and fits the link and hop of plan.py's model to them. Then it times a step
of a dense net without sums, with sums during backward, and with sums after it. Every time is the median
of the rounds, of the slowest process.
"""

import statistics
import time

import numpy as np
import torch

from nets.distributed.backward import Backward
from nets.distributed.buckets import Reducer
from nets.layers.containers import Sequential
from nets.layers.linear import Linear
from nets.losses import MSELoss
from nets.optim.sgd import SGD
from nets.training.step import train_step
from nets.training.world import World

SIZES = [2**k for k in range(16, 27, 2)]  # bytes


class Late(Backward):
    """Sums that begin when backward has ended."""

    def __call__(self, net, saved, dz, value, num_correct, frozen=frozenset()):
        self.reducer.take(net.backward(saved, dz, input_grad=False)[1])
        return self.reducer.finish()[0], value, num_correct


class Without(Backward):
    """No sums."""

    def __call__(self, net, saved, dz, value, num_correct, frozen=frozenset()):
        return net.backward(saved, dz, input_grad=False)[1], value, num_correct


def slowest(world: World, work, rounds: int) -> float:
    """Seconds that work() takes: the median of the rounds, each the slowest process's."""
    times = []
    for i in range(rounds + 2):
        world.barrier()
        begin = time.perf_counter()
        work()
        if world.device.type == "cuda":
            torch.cuda.synchronize()
        took = world.max(round(1e9 * (time.perf_counter() - begin)))[0] / 1e9
        if i >= 2:
            times.append(took)
    return statistics.median(times)


def sums(world: World, rounds: int) -> dict[int, float]:
    """{bytes: seconds} of a sum over the processes."""
    found = {}
    for size in SIZES:
        t = torch.zeros(size // 4, device=world.device)
        found[size] = slowest(world, lambda: world.sum(t), rounds)  # noqa: B023
    return found


def fitted(found: dict[int, float], n: int) -> tuple[float, float]:
    """(link in bytes a second, hop in seconds) of plan.ring, fitted to sums' times by relative error."""
    sizes, seconds = np.array([*found], float), np.array([*found.values()])
    a = np.stack([2 * (n - 1) / n * sizes, np.full(len(sizes), 2.0 * (n - 1))], 1) / seconds[:, None]
    (inverse, hop), *_ = np.linalg.lstsq(a, np.ones(len(sizes)), rcond=None)
    return 1 / inverse, max(0.0, hop)


def steps(world: World, width: int, depth: int, batch: int, mb: float, rounds: int) -> dict[str, float]:
    """{"none", "during", "after": seconds a step} of `depth` dense layers, `batch` samples a process."""
    torch.manual_seed(0)
    net = Sequential(*(Linear(width, width) for _ in range(depth))).to(world.device)
    x, y = torch.randn(2, batch, width, device=world.device)
    reducer, loss, found = Reducer(net.params, world, mb), MSELoss(), {}
    for name, kind in (("none", Without), ("during", Backward), ("after", Late)):
        backward = kind(reducer, 1 / world.size, 1 / world.size)
        step = train_step(net, loss, SGD(net.params, 1e-6), backward=backward)
        found[name] = slowest(world, lambda: step(x, y, 1.0), rounds)  # noqa: B023
    return found
