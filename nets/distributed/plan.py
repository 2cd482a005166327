"""A model of the time that a train step takes on N GPUs.

    forward    2·P·b / R           P multiplications a sample, b samples a process, R multiplications
    backward   4·P_l·b / R         and additions a second; layer by layer, from the last to the first
    sum        2·(n−1)/n·S / W + 2·(n−1)·a     S bytes around a ring of n, W bytes a second, a seconds a hop
    update     20·w / M            w weights: gradient, momentum and weight read, two of them written

A bucket of gradients is sent when it is full and the wire is free; the step ends when both the last
sum and backward have. Sources: Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for
clusters of workstations"; Li et al. 2020, "PyTorch Distributed".
"""

from dataclasses import dataclass

BUCKET = 25e6  # bytes


@dataclass(frozen=True)
class Work:
    """What a net asks for: a pair for each layer, forward's order, (multiplications a sample, weights)."""

    name: str
    layers: tuple[tuple[float, float], ...]

    @property
    def products(self) -> float:
        return sum(p for p, _ in self.layers)

    @property
    def weights(self) -> float:
        return sum(w for _, w in self.layers)


@dataclass(frozen=True)
class Machine:
    """A GPU and its link. An assumption is an argument: see docs/many-gpus.md for where they are from."""

    rate: float = 400e12  # multiplications and additions a second that a step reaches, not the peak
    memory: float = 3e12  # bytes a second
    link: float = 50e9  # bytes a second, each way, a GPU
    hop: float = 10e-6  # seconds
    wire: float = 2  # bytes a gradient


@dataclass(frozen=True)
class Step:
    """A step's seconds; `waits` are those in which nothing is computed, for want of sums."""

    seconds: float
    waits: float
    sent: float  # bytes that each process sends


def ring(size: float, n: int, m: Machine) -> float:
    """Seconds that n processes take to sum `size` bytes."""
    return 2 * (n - 1) / n * size / m.link + 2 * (n - 1) * m.hop if n > 1 else 0.0


def step(work: Work, batch: float, n: int, m: Machine, bucket: float = BUCKET, overlap: bool = True) -> Step:
    """A step of `batch` samples over n processes."""
    each = batch / n
    now = 2 * work.products * each / m.rate  # forward is done
    end = now + 4 * work.products * each / m.rate  # and backward
    free, full = (now if overlap else end), 0.0  # when the wire is, and how full the bucket
    for i, (products, weights) in reversed(list(enumerate(work.layers))):
        now += 4 * products * each / m.rate
        full += weights * m.wire
        if full and (full >= bucket or i == 0):
            free = max(free, now if overlap else end) + ring(full, n, m)
            full = 0.0
    update = 20 * work.weights / m.memory
    done = max(free, end)
    sent = 2 * (n - 1) / n * work.weights * m.wire
    return Step(done + update, done - end, sent)


def billion() -> Work:
    """Twenty-five dense layers of 6,400 × 6,400: 1.02 billion weights."""
    return Work("1.02 billion", ((6400 * 6400.0, 6400 * 6400.0),) * 25)
