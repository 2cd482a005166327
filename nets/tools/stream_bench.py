"""Stream bench: training speed, waiting time and peak memory of streaming, by the number of workers.

Each count trains in a process of its own and always streams from the files. The output is images
per second, the share of time in which the step waited, and the peak memory of the process and its
workers, including the listing of the tree. Memory is the proportional set size: a page that n
processes share counts 1/n in each.
"""

import contextlib
import multiprocessing
import threading
import time
from pathlib import Path

import torch
from tqdm import tqdm

from nets.common.errors import UsageError
from nets.data import decoder, stream
from nets.training.run import Run

HEAD = f"{'workers':>7}  {'images/s':>10}  {'waited':>6}  {'peak / MB':>9}"
WARMUP = 5  # steps before the clock starts


class PeakMemory:
    """Samples the memory of this process and its children while open. `peak`: MB; NaN except on Linux."""

    def __init__(self, every: float = 0.1):
        self.every, self.peak, self.done = every, float("nan"), threading.Event()

    def now(self) -> float:
        ids = ["self", *(p.pid for p in multiprocessing.active_children())]
        total = 0.0
        for i in ids:
            with contextlib.suppress(OSError, StopIteration):  # a process that has just ended
                lines = Path(f"/proc/{i}/smaps_rollup").read_text().splitlines()
                total += int(next(s for s in lines if s.startswith("Pss:")).split()[1]) / 1000
        return total or float("nan")

    def _sample(self):
        while not self.done.wait(self.every):
            now = self.now()
            self.peak = now if not self.peak >= now else self.peak

    def __enter__(self):
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


def measure(conf, where: torch.device, steps: int) -> tuple[float, float, float]:
    """Train `steps` steps: (images per second, share of time waited, peak MB)."""
    with PeakMemory() as memory:
        run = Run.from_config(conf, where)
        x, rate = run.data.train_x, torch.ones((), device=where)
        loss = torch.zeros((), device=where)
        if not isinstance(x, stream.ImageStream):
            raise UsageError(f"data.source: {conf.data.source} is not a tree of images")
        begin, done, waits = time.perf_counter(), 0, 0.0
        with tqdm(total=steps, unit="step", disable=None, leave=False) as bar:
            for epoch in range(-(-(steps + WARMUP) // run.per_epoch[0])):
                for indices, images, target in run.feed(epoch):
                    loss = run.learner(indices, images, target, rate)
                    done += 1
                    if done == WARMUP:
                        loss.item()  # waits for the device
                        begin, waits, x.wait_timer = time.perf_counter(), 0.0, decoder.WaitTimer(where)
                    if done > WARMUP:
                        bar.update()
                    if done == WARMUP + steps:
                        break
                waits += x.wait_timer.seconds()
        loss.item()
        seconds = time.perf_counter() - begin
    return steps * run.feed.batch / seconds, waits / seconds, memory.peak


def line(workers: int, pace: float, waited: float, peak: float) -> str:
    """A line of the table below HEAD."""
    return f"{workers:>7}  {pace:10,.0f}  {waited:6.1%}  {peak:9,.0f}"
