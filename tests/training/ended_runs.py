"""Short runs, and runs that end early."""

import os
import signal
from pathlib import Path

import torch

from nets.report.run_figures import Figures
from nets.training import config
from nets.training.hooks import Hook
from nets.training.run import Run

CPU = torch.device("cpu")

ROOT = Path(__file__).parents[2]

QUICK = ["train.epochs=3", "train.batch_size=256", "log.every_steps=2", "checkpoint.every_seconds=0"]

MUON = [
    "train.optimizer=muon",
    "train.lr=0.02",
    'train.param_groups=[{ match = ["0.*"], until_epoch = 1.5 }]',
]

RUNS = {
    "dropout": ("digits", []),
    "varied": ("digits", ["augment.flip=alternating", "augment.cutout=3", "train.dtype=bfloat16"]),
    "selective": ("digits", ["train.skip_fraction=0.8", "train.skip_after_epochs=1"]),
    "muon": ("digits", MUON),
    "eval every second epoch": ("digits", ["train.eval_every=2", "eval.tta=flip"]),
    "skipping": ("digits", ["train.on_nonfinite=skip"]),
    "ignoring": ("digits", ["train.on_nonfinite=ignore"]),
    "adaptive": ("cross", ["train.epochs=12", "train.optimizer=adaptive", "train.batch_size=4"]),
}


class Gone(BaseException):
    """The process ends without saving."""


def make(name, overrides=()):
    file, own = RUNS.get(name, ("digits", []))
    return config.load(ROOT / f"configs/{file}.toml", [*QUICK, *own, *overrides])


def run_of(conf, out, *hooks):
    return Run.from_config(conf, CPU, out, hooks=[Figures(), *hooks])


def ended(conf, out, at, end):
    """A run that `end(run)` ends at step `at`."""
    return run_of(conf, out, End(at, end))


class End(Hook):
    """Calls end(run) before a step."""

    def __init__(self, at, end):
        self.at, self.end = at, end

    def before_step(self, run):
        if run.at() == self.at:
            self.end(run)


def gone(run):
    raise Gone


def stop(run):
    os.kill(os.getpid(), signal.SIGTERM)
