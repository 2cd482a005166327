"""How long does the step wait for a stream of pictures, and what memory does it take, by worker count?

    nets stream-bench CONFIG --data-root DIR --workers 0,1,2

Each count trains in a process of its own, always from the files. Printed are pictures a second,
the share of time in which the step waited, and the peak memory of the process and its workers,
from the listing of the tree on: their proportional set sizes, in which a page that n processes
share counts 1/n in each.
"""

import contextlib
import dataclasses
import multiprocessing
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch
from tqdm import tqdm

from nets.commands import cli
from nets.common import device
from nets.common.errors import UsageError
from nets.data import stream
from nets.training import config, trainer

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


def main():
    parser = cli.parser(__doc__.splitlines()[0])
    parser.add_argument("config", metavar="CONFIG")
    parser.add_argument("--data-root", metavar="DIR", help="override data.root")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=v", help="override a key")
    parser.add_argument("--workers", default="0,1,2", metavar="N,N…", help="worker counts (%(default)s)")
    parser.add_argument("--steps", type=int, default=50, help="steps to time (%(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--bare", action="store_true", help="print no heading")
    args = parser.parse_args()
    counts = args.workers.split(",")
    if not all(n.isdecimal() for n in counts) or args.steps < 1:
        raise UsageError("--workers: whole numbers, such as 0,1,2; --steps: at least 1")
    if not args.bare:
        print(HEAD, flush=True)
    if len(counts) > 1:
        for n in counts:
            again = [sys.executable, "-m", "nets", "stream-bench", *sys.argv[1:], "--workers", n, "--bare"]
            if code := subprocess.run(again).returncode:
                raise SystemExit(code)
        return
    root = [] if args.data_root is None else [f"data.root={config.toml(args.data_root)}"]
    conf = config.load(args.config, args.set + root)
    data = dataclasses.replace(conf.data, memory_limit_mb=0, num_workers=int(counts[0]))
    pace, waited, peak = measure(dataclasses.replace(conf, data=data), device.pick(args.device), args.steps)
    print(f"{counts[0]:>7}  {pace:10,.0f}  {waited:6.1%}  {peak:9,.0f}")


if __name__ == "__main__":
    with cli.one_line_errors():
        main()
