"""The lines of a run's log, and its progress bar."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tqdm import tqdm

from nets.training.hooks.base import Hook
from nets.training.log import Log, MemoryLog
from nets.training.metrics import RunningMetrics

if TYPE_CHECKING:
    from nets.training.run import Run


class LogHook(Hook):
    """Writes the log's lines: every log.every_steps steps, and after each epoch."""

    name = "log"

    def __init__(self, run: Run):
        self.epoch, self.steps = RunningMetrics(run.device), RunningMetrics(run.device)
        self.log: Log | MemoryLog | None = None
        self.mark, self.epoch_seconds = {}, 0.0

    def before_run(self, run):
        if not run.world.is_main:
            return
        board = run.config.log.tensorboard
        if run.out is None:
            self.log = MemoryLog()
        else:
            self.log = Log.resume(run.out, self.mark, board) if run.resumed else Log(run.out, board)

    def before_epoch(self, run):
        self.begin = time.perf_counter()

    def means(self, run: Run, of: RunningMetrics) -> dict[str, float]:
        return of.means(getattr(run.loss, "reduction", "sum") == "sum")

    def after_step(self, run):
        if run.due.line:
            self.add(run, self.means(run, self.steps) | {"lr": run.factor * run.config.train.lr})
            self.steps.reset()

    def close_epoch(self, run, facts):
        run.clock.tick()
        self.epoch_seconds = time.perf_counter() - self.begin
        facts |= self.means(run, self.epoch)

    def after_epoch(self, run, facts):
        self.add(run, {"epoch": run.progress.epoch} | facts, run.feed.waited(self.epoch_seconds))
        self.epoch.reset()

    def add(self, run: Run, facts: dict, times: dict | None = None):
        took = {name: value for hook in run.hooks for name, value in hook.times(run).items()}
        if self.log:
            step = {"step": run.at()}
            self.log.add(step | facts, step | took | (times or {}))

    def close(self, run):
        if self.log:
            self.log.close()

    def state(self):
        mark = {"mark": self.log.mark()} if isinstance(self.log, Log) else {}
        return {"epoch": self.epoch.sums, "steps": self.steps.sums} | mark

    def load(self, state):
        for name in ("epoch", "steps"):
            if not (state[name].isfinite().all() and (state[name][1:] >= 0).all()):
                raise ValueError(f"log.{name}: {state[name].tolist()} can't be sums")
        super().load(state)
        self.mark = state["mark"]


class Bar(Hook):
    """The progress bar, on a terminal."""

    def before_run(self, run):
        self.bar = tqdm(total=run.steps, initial=run.at(), desc=run.config.name, unit="step",
                        disable=None if run.show_bar and run.world.is_main else True)  # fmt: skip

    def before_epoch(self, run):
        self.begin = time.perf_counter()

    def after_step(self, run):
        self.bar.update()
        if run.due.look:
            seconds, epoch = time.perf_counter() - self.begin, run.logger.epoch
            means = run.logger.means(run, epoch)
            speed = epoch.samples() / seconds
            words = [f"loss {means['loss']:.4g}, acc {means['train_top1']:.1%}, {speed:,.0f} img/s"]
            words += [f"{name} {value:.0%}" for name, value in run.feed.waited(seconds).items()]
            self.bar.set_postfix_str(", ".join(words), False)

    def close(self, run):
        if hasattr(self, "bar"):
            self.bar.close()
