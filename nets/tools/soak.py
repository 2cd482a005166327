"""Soak: a long run with tests and checkpoints, which fails if memory, open files or threads grow.

The last steps are compared with the first.
"""

import dataclasses
import os
import statistics
import tempfile
import threading

import torch

from nets.common.errors import UsageError
from nets.report.run_figures import Figures
from nets.training import config, log
from nets.training.hooks import Hook
from nets.training.run import Run

GROWTH = 0.02  # allowed share of growth in resident memory, between the medians of first and last steps
SHARE = 1000  # steps in either median


class Counts(Hook):
    """Adds the process's open files and threads to every line of times.jsonl."""

    def times(self, run):
        counts = {"files": len(os.listdir("/proc/self/fd")), "threads": len(os.listdir("/proc/self/task"))}
        return counts | {"python_threads": threading.active_count()}


def soak(conf: config.Config, where: torch.device, steps: int) -> tuple[int, dict[str, tuple[float, float]]]:
    """Train at least `steps` steps, in whole epochs: (steps, what compare() says about them)."""
    with tempfile.TemporaryDirectory() as folder:
        epochs = -(-steps // Run.from_config(conf, where).per_epoch[0])
        conf = dataclasses.replace(conf, train=dataclasses.replace(conf.train, epochs=epochs))
        run = Run.from_config(conf, where, folder, hooks=[Figures(), Counts()])
        run.train()
        return run.steps, compare(log.read_entries(folder), run.steps)


def compare(log_entries: list[dict], steps: int) -> dict[str, tuple[float, float]]:
    """{what: (in the first steps, in the last)}: the median of memory, in MB, the maximum of the rest."""
    share = min(SHARE, steps // 3)
    first = [entry for entry in log_entries if entry["step"] <= share]
    last = [entry for entry in log_entries if entry["step"] > steps - share]
    if not first or not last:
        raise UsageError(f"--steps: {steps} steps have too few log entries to compare; train more")
    measures = {"memory": statistics.median, "files": max, "threads": max, "python_threads": max}
    return {
        name: (measure([entry[name] for entry in first]), measure([entry[name] for entry in last]))
        for name, measure in measures.items()
    }


def grown(found: dict[str, tuple[float, float]]) -> list[str]:
    """The names of what grew in compare()'s result."""
    return [n for n, (a, b) in found.items() if b > a * (1 + GROWTH if n == "memory" else 1)]
