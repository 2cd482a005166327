"""Does a long run stay as small as it was? nets soak [CONFIG] [--steps N]

A run of many steps, tests and checkpoints, at the end of which memory, open files and threads have
to be what they were near its beginning.
"""

import dataclasses
import os
import statistics
import tempfile
import threading
from pathlib import Path

from nets.commands import cli
from nets.common import device
from nets.common.errors import Problem
from nets.training import config, trainer
from nets.training.log import rows

GROWTH = 0.02  # of resident memory, from the first thousand steps' median to the last


class Soaked(trainer.Run):
    """A run that counts its process's open files and threads at every line of the log."""

    def _line(self, facts, times=None):
        counts = {"files": len(os.listdir("/proc/self/fd")), "threads": len(os.listdir("/proc/self/task"))}
        super()._line(facts, (times or {}) | counts | {"python_threads": threading.active_count()})


def compared(found: list[dict], steps: int) -> dict[str, tuple[float, float]]:
    """{what: (over the first thousand steps, over the last)}: memory's median, the others' most."""
    share = min(1000, steps // 3)
    first = [row for row in found if row["step"] <= share]
    last = [row for row in found if row["step"] > steps - share]
    ways = {"memory": statistics.median, "files": max, "threads": max, "python_threads": max}
    return {
        name: tuple(way(row[name] for row in part) for part in (first, last)) for name, way in ways.items()
    }


def main():
    parser = cli.parser(__doc__)
    parser.add_argument("config", nargs="?", default="configs/digits.toml", metavar="CONFIG")
    parser.add_argument("--steps", type=int, default=10_000, help="at least so many (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=v", help="override a key")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    args = parser.parse_args()
    conf = config.load(args.config, ["log.every_steps=10", *args.set])
    where = device.pick(args.device)
    with tempfile.TemporaryDirectory() as folder:
        epochs = -(-args.steps // trainer.Run(conf, where, Path(folder)).per_epoch[0])
        conf = dataclasses.replace(conf, train=dataclasses.replace(conf.train, epochs=epochs))
        run = Soaked(conf, where, Path(folder))
        run.train()
        found = compared(rows(folder), run.steps)
    print(f"{run.steps:,} steps    first 1,000  last 1,000")
    for name, (first, last) in found.items():
        print(f"{name:<15} {first:11,.1f} {last:11,.1f}")
    grown = [n for n, (a, b) in found.items() if b > a * (1 + GROWTH if n == "memory" else 1)]
    if grown:
        raise Problem(f"grown: {', '.join(grown)}")


if __name__ == "__main__":
    with cli.one_line_errors():
        main()
