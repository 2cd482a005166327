"""A long run must not grow: memory, open files and threads at its end are those of its first steps."""

import dataclasses
import os
import statistics
import tempfile
import threading
from pathlib import Path

from nets.training import trainer
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


def soak(conf, where, steps: int) -> tuple[int, dict[str, tuple[float, float]]]:
    """Train a config for at least `steps` steps, in a temporary folder: (steps done, compared())."""
    with tempfile.TemporaryDirectory() as folder:
        epochs = -(-steps // trainer.Run(conf, where, Path(folder)).per_epoch[0])
        conf = dataclasses.replace(conf, train=dataclasses.replace(conf.train, epochs=epochs))
        run = Soaked(conf, where, Path(folder))
        run.train()
        return run.steps, compared(rows(folder), run.steps)


def grown(found: dict[str, tuple[float, float]]) -> list[str]:
    """What has grown, of compared()'s result: memory by more than GROWTH, the counts by one or more."""
    return [name for name, (a, b) in found.items() if b > a * (1 + GROWTH if name == "memory" else 1)]
