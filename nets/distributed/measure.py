"""What do sums over processes cost here, and how much of them does backward hide?

    torchrun --nproc-per-node 2 -m nets.distributed.measure

times sums of several sizes, fits the model's link and hop (plan.py) to them, and then times a step of a
dense net three ways: without sums, with sums while backward runs, and with sums after it. The model's
own figures for the three stand beside. Every time is the median of the rounds, of the slowest process.
"""

import statistics
import time

import numpy as np
import torch

from nets.commands import cli
from nets.distributed import plan
from nets.distributed.alive import watched
from nets.distributed.backward import Backward
from nets.distributed.buckets import Reducer
from nets.distributed.world import World, join
from nets.layers.containers import Sequential
from nets.layers.linear import Linear
from nets.losses import MSELoss
from nets.optim.sgd import SGD
from nets.report.tables import grid
from nets.training.step import train_step

SIZES = [2**k for k in range(16, 27, 2)]  # bytes


class Late(Backward):
    """Sums that begin when backward has ended."""

    def __call__(self, net, saved, dz, *told):
        grads = net.backward(saved, dz)[1]
        self.reducer.take(grads)
        return self.reducer.finish()[0], *told


class Without(Backward):
    """No sums."""

    def __call__(self, net, saved, dz, *told):
        return net.backward(saved, dz)[1], *told


def slowest(world: World, work, rounds: int) -> float:
    """Seconds that work() takes: the median of the rounds, each the slowest process's."""
    times = []
    for i in range(rounds + 2):
        world.meet()
        begin = time.perf_counter()
        work()
        if world.device.type == "cuda":
            torch.cuda.synchronize()
        took = world.most(round(1e9 * (time.perf_counter() - begin)))[0] / 1e9
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
    """(link in bytes a second, hop in seconds) of plan.ring that come nearest to sums' times, each counted alike."""
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


def main():
    parser = cli.parser(__doc__.split("\n")[0])
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256, 1024], help="samples a process")
    parser.add_argument("--mb", type=float, default=4.0, help="in a bucket")
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    with watched(join(args.device)) as world:
        found = sums(world, args.rounds)
        link, hop = fitted(found, world.size)
        machine = plan.Machine(link=link, hop=hop, wire=4)
        rows = [("MB", "ms", "model", "GB/s of each process")]
        for size, seconds in found.items():
            sent = 2 * (world.size - 1) / world.size * size
            row = size / 1e6, 1e3 * seconds, 1e3 * plan.ring(size, world.size, machine), sent / seconds / 1e9
            rows.append(tuple(f"{v:.3f}" for v in row))
        lines = [
            f"{world.size} processes: {link / 1e9:.2f} GB/s each way, {1e6 * hop:.0f} µs a hop",
            grid(rows, left=()),
        ]
        weights = args.depth * args.width * (args.width + 1)
        lines += [
            "",
            f"{args.depth} layers of {args.width} × {args.width}: {4 * weights / 1e6:.0f} MB of gradients, ms a step",
        ]
        rows = [
            (
                "batch each",
                "no sums",
                "during backward",
                "model",
                "after backward",
                "model",
                "hidden",
                "model",
            )
        ]
        for batch in args.batch:
            t = steps(world, args.width, args.depth, batch, args.mb, args.rounds)
            flops = 6 * batch * args.depth * args.width**2
            work = plan.Work("dense", ((args.width**2, args.width * (args.width + 1)),) * args.depth)
            # what isn't products is the model's update
            own = plan.Machine(rate=flops / t["none"], memory=1e30, link=link, hop=hop, wire=4)
            model = [
                plan.step(work, batch * world.size, world.size, own, args.mb * 1e6, overlap).seconds
                for overlap in (True, False)
            ]
            hidden = [1 - (a - t["none"]) / (b - t["none"]) for a, b in ((t["during"], t["after"]), model)]
            times = t["none"], t["during"], model[0], t["after"], model[1]
            rows.append((f"{batch}", *(f"{1e3 * v:.1f}" for v in times), *(f"{h:.0%}" for h in hidden)))
        lines.append(grid(rows, left=()))
        if world.first:
            print("\n".join(lines))


if __name__ == "__main__":
    with cli.one_line_errors():
        main()
