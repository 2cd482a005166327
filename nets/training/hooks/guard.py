"""What happens after a step whose loss or update isn't finite."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from torch import Tensor

from nets.common import files
from nets.common.errors import NonFiniteError
from nets.training.checkpoint import LAST
from nets.training.guard import Guard
from nets.training.hooks.base import Hook

if TYPE_CHECKING:
    from nets.training.run import Run

NONFINITE = "nonfinite.json"


class GuardHook(Hook):
    """Reads the guard now and then, and ends the run if train.on_nonfinite says so."""

    name = "guard"

    def __init__(self, guard: Guard):
        self.guard = guard

    def after_step(self, run):
        # reading a number waits for the device: now and then is enough, unless the device is the CPU
        if run.due.line or run.due.look or run.device.type == "cpu":
            self.check(run)

    def close_epoch(self, run, facts):
        self.check(run)

    def check(self, run: Run):
        """NonFiniteError if a step wasn't finite or, where such steps are skipped, if too many weren't."""
        t, p = run.config.train, run.progress
        problem = self.guard.message(t.max_nonfinite_steps)
        if not problem:
            return
        # after that step no step counted, and the device may be some steps ahead
        bad = p.step - 1 if t.on_nonfinite == "skip" else run.logger.epoch.steps()
        facts = {"epoch": p.epoch + 1, "step": bad + 1, "samples": run.feed.indices(p.epoch, bad)}
        if t.on_nonfinite == "stop":  # nothing has changed since
            p.step = bad
            self.guard.good.fill_(True)
        where, reason = f"at step {bad + 1} of epoch {p.epoch + 1}", self._reason(run, bad, facts["samples"])
        if run.out is not None:
            if run.world.is_main:
                files.write_text(run.out / NONFINITE, json.dumps(facts) + "\n")
            if t.on_nonfinite == "stop":
                run.saver.save(run)
            reason += f"; the batch is listed in {run.out / NONFINITE}, and {LAST} has the last good state"
        raise NonFiniteError(f"{problem} {where}; {reason}")

    def _reason(self, run: Run, step: int, samples: list[int]) -> str:
        """What to look at. The learning rate is a reason only if some step has changed the net with it."""
        x, y = run.data.train_x, run.data.train_y
        for name, t in (("x", x), ("y", y)):
            floats = isinstance(t, Tensor) and t.is_floating_point()
            if wrong := [i for i in samples if not t[i].isfinite().all()] if floats else []:
                return f"{name} of training sample {wrong[0]} is infinite or NaN"
        lr, steps = run.config.train.lr, run.starts[run.progress.epoch] + step + 1
        bad = int(self.guard.skipped) if self.guard.policy == "skip" else 1
        # a large rate can make a finite gradient overflow in the first step
        overflow = lr * run.factor > 1 and math.isfinite(self.guard.loss.item())
        if steps == bad and not overflow:
            return "no earlier step changed the net, so the inputs or the initial weights are to blame"
        return f"a lower train.lr may help (now {lr:g})"

    def after_run(self, run, facts):
        if self.guard.policy == "skip":
            facts["skipped_steps"] = int(self.guard.skipped)

    def state(self):
        return self.guard.state()
