"""When checkpoints are written."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nets.common import files
from nets.training import checkpoint
from nets.training.checkpoint import BEST, LAST
from nets.training.hooks.base import Hook

if TYPE_CHECKING:
    from nets.training.run import Run


class CheckpointHook(Hook):
    """Writes checkpoints: at the start and the end, after the best epoch, and whenever one is due.

    The validation split selects the best epoch. A run without a folder writes none.
    """

    def __init__(self):
        self.saved_at = time.perf_counter()

    def before_run(self, run):
        self.saved_at = time.perf_counter()
        if not run.resumed:
            self.save(run)

    def after_step(self, run):
        if run.due.save:
            self.save(run)

    def after_epoch(self, run, facts):
        better, last = run.evaluator.better, run.progress.epoch == run.config.train.epochs
        if not (better or last):
            run.due.update(run, now=True)
        if better or last or run.due.save:
            self.save(run, better)

    def save(self, run: Run, best: bool = False):
        """Write the last checkpoint, which may also be the best. All processes must call it.

        The best comes first. The last one knows the best score, so a run that was killed between the two
        and resumed from an already written last one would never write the best.
        """
        if run.out is not None:
            with run.clock.paused():
                checkpoint.save(run, run.out / (BEST if best else LAST))
                if best and run.world.is_main:
                    files.link(run.out / BEST, run.out / LAST)
        self.saved_at = time.perf_counter()
