"""Runs of tests/distributed/test_together.py: whole training runs on several processes.

Prints for each run the exit codes and what was said.
"""

import json
import os
import signal
import sys
from pathlib import Path

import sklearn.datasets
import sklearn.model_selection  # noqa: F401
import torch
import torch._dynamo

from nets.commands import cli
from nets.distributed.alive import watched
from nets.distributed.world import join
from nets.report.run_figures import Figures
from nets.training import config
from nets.training.hooks import Hook
from nets.training.run import Run
from tests.distributed.forked import fork

ROOT = Path(__file__).parents[2]
SMALL = [f"net.layers.{i}.out_channels=8" for i in (0, 3, 7)] + ["train.epochs=2", "log.every_steps=2"]
EXACT = [
    *SMALL,
    "train.dtype=float64",
    "net.backend=reference",
    "distributed.batch_norm=sync",
    "net.layers.12.p=0",
]
# batches of 231 aren't whole for 2 or 4 processes, nor is the test set of 360 pictures' doubtful part
EXACT += ["train.batch_size=231", "train.skip_fraction=0.5", "eval.tta=flip", "eval.tta_fraction=0.31"]
LOCAL = [*SMALL, "train.batch_size=230"]
# folder, processes, settings, at which step to which rank what happens
RUNS = [
    ("one", 1, EXACT, None),
    ("two", 2, EXACT, None),
    ("four", 4, EXACT, None),
    ("sharded", 2, [*EXACT, "distributed.shard_optimizer=true"], None),
    ("from two to one", 2, [*EXACT, "distributed.shard_optimizer=true"], (4, 1, "stop")),
    ("from two to one", 1, EXACT, None),
    ("from one to two", 1, EXACT, (5, 0, "stop")),
    ("from one to two", 2, [*EXACT, "distributed.shard_optimizer=true"], None),
    ("local", 2, LOCAL, None),
    ("first killed", 2, [*LOCAL, "checkpoint.every_steps=2"], (7, 0, "kill")),
    ("first killed", 2, LOCAL, None),
    ("second killed", 2, [*LOCAL, "checkpoint.every_steps=2"], (7, 1, "kill")),
    ("second killed", 2, LOCAL, None),
    ("not finite", 2, EXACT, (3, 1, "nan")),
    ("in the way", 2, LOCAL, (0, 1, "there")),
    # one step an epoch: each epoch's end exchanges flags
    ("short epochs", 2, [*LOCAL, "train.batch_size=1437", "train.epochs=60"], (3, 1, "stop")),
]


class Signal(Hook):
    """Sends this process a signal before a step."""

    def __init__(self, at: int, what: str):
        self.at, self.number = at, signal.SIGKILL if what == "kill" else signal.SIGTERM

    def before_step(self, run):
        if run.at() == self.at:
            os.kill(os.getpid(), self.number)


def work(folder: Path, name: str, settings, event):
    conf = config.load(ROOT / "configs/digits.toml", [*settings, "checkpoint.every_seconds=1e9"])
    at, rank, what = event or (None, None, None)
    with cli.one_line_errors(), watched(join("cpu")) as world:
        hooks = [Figures()] + ([Signal(at, what)] if world.rank == rank and what in ("kill", "stop") else [])
        run = Run.from_config(conf, world.device, folder / name, world, hooks)
        step = run.learner.step

        def poisoned(x, *rest):
            bad = what == "nan" and run.at() == at and world.rank == rank
            return step(torch.full_like(x, torch.nan) if bad else x, *rest)

        run.learner.step = poisoned
        if what == "there" and world.is_main:
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / "result.json").write_text("{}")
        inexact = name.startswith("from ")  # by another number of processes
        run.train(resume=what != "there" and ("inexact" if inexact else True))


def main(folder: Path):
    torch.set_num_threads(1)
    results = []
    for name, size, settings, event in RUNS:
        codes, lines, _ = fork(size, lambda _: work(folder, name, settings, event))
        results.append([name, codes, [line for some in lines for line in some]])
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
