"""Tests while a run trains, and at its end."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from torch import Tensor

from nets.training.config import Eval
from nets.training.evaluate import outputs
from nets.training.hooks.base import Hook
from nets.training.metrics import metrics

if TYPE_CHECKING:
    from nets.training.run import Run


class Evaluate(Hook):
    """Tests the net every train.eval_every epochs and at the end.

    best    the best score so far, None before the first
    better  is the last test's the best?
    result  the last test's metrics, None without a test set
    z       its outputs
    """

    name = "evaluate"

    def __init__(self):
        self.best: float | None = None
        self.better, self.result = False, None
        self.z: Tensor | None = None

    def test(self, run: Run, settings: Eval = Eval()):
        """The metrics on the test set."""
        d, wide = run.data, run.config.train.channels_last
        # one of several processes must not stop alone: they stop after a step
        check = run.due.signals.check if run.world.size == 1 else lambda: None
        how = {"settings": settings, "before_batch": check, "world": run.world}
        with run.clock.paused():
            assert d.test_x is not None and d.test_y is not None
            self.z = outputs(run.fast, d.test_x, d, run.dtype, wide, **how)
            return metrics(self.z, d.test_y)

    def close_epoch(self, run, facts):
        last, self.better = run.progress.epoch + 1 == run.config.train.epochs, False
        if last and hasattr(run.optimizer, "restore_best"):
            run.optimizer.restore_best()  # undo the last step, whose performance isn't known
        if run.data.test_x is not None and (
            last or (run.progress.epoch + 1) % run.config.train.eval_every == 0
        ):
            self.result = self.test(run)
            facts |= self.result.scores()
            score = self.result.score()
            self.better = math.isfinite(score) and (self.best is None or score > self.best)
            self.best = score if self.better else self.best

    def after_run(self, run, facts):
        if run.data.test_x is None:
            return
        self.result = self.result or self.test(run)  # resumed after its last step
        if run.config.eval.tta != "none":
            facts["one_view"] = self.result.scores()
            begin = time.perf_counter()
            self.result = self.test(run, run.config.eval)
            facts["eval_seconds"] = round(time.perf_counter() - begin, 3)

    def state(self):
        return {"best": self.best}

    def load(self, state):
        best = state["best"]
        if best is not None and (type(best) not in (int, float) or not abs(best) < 1e300):
            raise ValueError(f"{best!r} can't be a score")
        self.best = best
