"""Measures how long a step waits for streamed pictures, and how much memory they take.

Memory is the sum of the proportional set sizes of the process and its workers, from the listing of
the tree on: a page that n processes share counts 1/n in each.
"""

import contextlib
import multiprocessing
import threading
import time
from pathlib import Path

import torch
from tqdm import tqdm

from nets.common.errors import UsageError
from nets.data import stream
from nets.training import trainer

HEAD = f"{'workers':>7}  {'pictures/s':>10}  {'waited':>6}  {'peak / MB':>9}"
WARM = 5  # steps before the clock starts


class Memory:
    """The largest memory of this process and its children seen while open: `peak`, MB, or NaN off Linux."""

    def __init__(self, every: float = 0.1):
        self.every, self.peak, self.done = every, float("nan"), threading.Event()

    def now(self) -> float:
        ids = ["self", *(p.pid for p in multiprocessing.active_children())]
        total = 0.0
        for i in ids:
            with contextlib.suppress(OSError, StopIteration):  # one that has just ended
                lines = Path(f"/proc/{i}/smaps_rollup").read_text().splitlines()
                total += int(next(s for s in lines if s.startswith("Pss:")).split()[1]) / 1000
        return total or float("nan")

    def _watch(self):
        while not self.done.wait(self.every):
            now = self.now()
            self.peak = now if not self.peak >= now else self.peak

    def __enter__(self):
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


def measure(conf, where: torch.device, steps: int) -> tuple[float, float, float]:
    """Train `steps` steps: (pictures a second, share waited, peak MB)."""
    with Memory() as memory:
        run = trainer.Run(conf, where, Path())  # nothing is written before train()
        x, rate = run.data.train_x, torch.ones((), device=where)
        if not isinstance(x, stream.Pictures):
            raise UsageError(f"data.source: {conf.data.source} is not read from a tree of pictures")
        begin, done, waits = time.perf_counter(), 0, 0.0
        with tqdm(total=steps, unit="step", disable=None, leave=False) as bar:
            for epoch in range(-(-(steps + WARM) // run.per_epoch[0])):
                for batch in run.feed(epoch):
                    loss = run.learn(*batch, rate)
                    done += 1
                    if done == WARM:
                        loss.item()  # waits for the device
                        begin, waits, x.wait = time.perf_counter(), 0.0, stream.Wait(where)
                    if done > WARM:
                        bar.update()
                    if done == WARM + steps:
                        break
                waits += x.wait.seconds()
        loss.item()
        seconds = time.perf_counter() - begin
    return steps * run.feed.batch / seconds, waits / seconds, memory.peak


def line(workers: int, pace: float, waited: float, peak: float) -> str:
    """measure()'s result as a line under HEAD."""
    return f"{workers:>7}  {pace:10,.0f}  {waited:6.1%}  {peak:9,.0f}"
