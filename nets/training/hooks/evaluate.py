"""Tests while a run trains, and at its end."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from torch import Tensor

from nets.common.errors import NonFiniteError
from nets.training.config import Eval
from nets.training.evaluate import outputs
from nets.training.hooks.base import Hook
from nets.training.metrics import Metrics, OutputMetrics, metrics

if TYPE_CHECKING:
    from nets.training.run import Run


class Evaluate(Hook):
    """Tests the net every train.eval_every epochs and at the end.

    With a validation split these tests are on it and select the best checkpoint; the test set is used once,
    after the last epoch. Without one they are on the test set, and select nothing.

    best        the best score on the validation split so far, None before the first
    best_epoch  the number of epochs that gave it
    better      is the last test's the best?
    result      the last test's metrics on the test set, None without one
    validation  the last test's metrics on the validation split
    z           the outputs for the test set
    """

    name = "evaluate"

    def __init__(self):
        self.best: float | None = None
        self.best_epoch, self.better = 0, False
        self.result: Metrics | OutputMetrics | None = None
        self.validation: Metrics | OutputMetrics | None = None
        self.z: Tensor | None = None

    def test(self, run: Run, settings: Eval = Eval()):
        """The metrics on the test set."""
        self.z = self.outputs(run, run.data.test_x, settings)
        assert run.data.test_y is not None
        return metrics(self.z, run.data.test_y)

    def validate(self, run: Run):
        """The metrics on the validation split."""
        assert run.data.val_y is not None
        return metrics(self.outputs(run, run.data.val_x), run.data.val_y)

    def outputs(self, run: Run, x, settings: Eval = Eval()) -> Tensor:
        """The net's outputs for samples x."""
        # one of several processes must not stop alone: they stop after a step
        check = run.due.signals.check if run.world.size == 1 else lambda: None
        how = {"settings": settings, "before_batch": check, "world": run.world}
        with run.clock.paused():
            return outputs(run.fast, x, run.data, run.dtype, run.config.train.channels_last, **how)

    def close_epoch(self, run, facts):
        done = run.progress.epoch + 1
        last, self.better = done == run.config.train.epochs, False
        if last and hasattr(run.optimizer, "restore_best"):
            run.optimizer.restore_best()  # undo the last step, whose performance isn't known
        if not last and done % run.config.train.eval_every:
            return
        if run.data.val_x is not None:
            self.validation = self.validate(run)
            facts |= {f"val_{name}": value for name, value in self.validation.scores().items()}
            score = self.validation.score()
            self.better = math.isfinite(score) and (self.best is None or score > self.best)
            if self.better:
                self.best, self.best_epoch = score, done
        elif run.data.test_x is not None:
            self.result = self.test(run)
            facts |= self.result.scores()

    def after_run(self, run, facts):
        if run.data.val_x is not None:
            found = self.validation or self.validate(run)  # resumed after its last step
            facts["validation"] = found.scores() | {"count": found.count, "best_epoch": self.best_epoch}
        if run.data.test_x is None:
            return
        self.result = self.result or self.test(run)
        if self.z is not None and not self.z.isfinite().all():
            raise NonFiniteError("an output of the trained net for the test set is infinite or NaN")
        if run.config.eval.tta != "none":
            facts["one_view"] = self.result.scores()
            begin = time.perf_counter()
            self.result = self.test(run, run.config.eval)
            facts["eval_seconds"] = round(time.perf_counter() - begin, 3)

    def state(self):
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load(self, state):
        best, epoch = state["best"], state["best_epoch"]
        if best is not None and (type(best) not in (int, float) or not abs(best) < 1e300):
            raise ValueError(f"{best!r} can't be a score")
        if type(epoch) is not int:
            raise ValueError(f"{epoch!r} can't be a number of epochs")
        self.best, self.best_epoch = best, epoch
