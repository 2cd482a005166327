"""What happens after a step with a loss or gradient that isn't finite."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

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
        where = f"at step {bad + 1} of epoch {p.epoch + 1}"
        hint = f"a lower train.lr may help (now {t.lr:g})"
        if run.out is not None:
            if run.world.is_main:
                files.write_text(run.out / NONFINITE, json.dumps(facts) + "\n")
            if t.on_nonfinite == "stop":
                run.saver.save(run)
            hint += f"; the batch is listed in {run.out / NONFINITE}, and {LAST} has the last good state"
        raise NonFiniteError(f"{problem} {where}; {hint}")

    def after_run(self, run, facts):
        if self.guard.policy == "skip":
            facts["skipped_steps"] = int(self.guard.skipped)

    def state(self):
        return self.guard.state()
