"""What is due after a step, by the clock, by signals and by the number of steps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nets.common.errors import Stopped
from nets.training.hooks.base import Hook
from nets.training.signals import SIGNALS, Stop

if TYPE_CHECKING:
    from nets.training.run import Run


class Due(Hook):
    """What is due after this step. The first hook: the others read it.

    line  a line of the log
    look  reading numbers, which waits for the device
    save  a checkpoint
    stop  the end, by the signal of this number, else 0

    Several processes agree, so that all of them do the same after the same step.
    """

    def __init__(self, run: Run):
        self.signals, self.agree = Stop(), run.world.agreement()
        self.line = self.look = self.save = False
        self.stop, self.looked = 0, 0.0

    def before_epoch(self, run):
        self.looked = time.perf_counter()

    def after_step(self, run):
        self.line = run.at() % run.config.log.every_steps == 0
        self.update(run)

    def update(self, run: Run, now: bool = False):
        """Find out what is due. now: several processes agree here in any case."""
        s, at, clock = run.config.checkpoint, run.at(), time.perf_counter()
        late = clock - run.saver.saved_at > s.every_seconds
        flags = self.agree(at, late, *(self.signals.number == kind for kind in SIGNALS), now=now)
        if run.world.size > 1:
            self.look = flags is not None
        else:
            self.look = clock - self.looked > 0.5
        if self.look:
            self.looked = clock
        late, *stops = flags or (False,)
        # what is agreed on stays: the next exchange may come before the next step
        self.stop = self.stop or next((kind for kind, received in zip(SIGNALS, stops) if received), 0)
        self.save = late or bool(s.every_steps and at % s.every_steps == 0)


class StopHook(Hook):
    """Ends the run after a signal. It is the last hook, so the others have finished the step or epoch."""

    def after_step(self, run):
        if run.due.stop:
            raise Stopped(run.due.stop)

    def after_epoch(self, run, facts):
        if run.progress.epoch < run.config.train.epochs:  # else only the result is left to write
            self.after_step(run)
