"""A training run: a net, its loss, optimizer and data, the hooks, and the folder with everything written.

A run can be stopped at any moment. It resumes from its last checkpoint, bit-identical to a run that was
never stopped.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import torch

from nets.common import files
from nets.common.device import keep_freed_memory, set_current_device
from nets.common.errors import Stopped, UsageError
from nets.data import digest
from nets.data.datasets import Dataset
from nets.data.stream import ImageStream
from nets.kernels import lower, running_backend
from nets.kernels.native import why_not
from nets.layers.base import Layer
from nets.optim.param_groups import frozen_names
from nets.training import checkpoint, lock, log, make, result
from nets.training.checkpoint import BEST, LAST, Progress
from nets.training.config import Config, with_absolute_root
from nets.training.feed import Feed
from nets.training.guard import Guard
from nets.training.hooks import (
    Bar,
    Capture,
    CheckpointHook,
    Clock,
    Due,
    Evaluate,
    GuardHook,
    Hook,
    LogHook,
    StopHook,
)
from nets.training.hooks.guard import NONFINITE
from nets.training.learn import Learner
from nets.training.loop import Events, train_epochs
from nets.training.metrics import Metrics, OutputMetrics
from nets.training.toml import dumps
from nets.training.world import World

FIGURES = ("curves.png", "top5.png", "guesses.png")
FILES = (*log.FILES, result.RESULT, LAST, BEST, NONFINITE, *FIGURES)


class Run:
    """One training run. `train()` does everything and returns the metrics on the test set.

    config   its settings. [data], [net] and the optimizer's keys of [train] describe the other arguments
    net      on `device` already; trained in place
    loss     of nets.losses
    make_optimizer  () -> the optimizer, called once
    data     on `device`; without a test set where data.test_x is None
    out      the folder, None to write nothing
    feed     where batches come from, by default from data.train_x
    hooks    more hooks; a checkpoint is written after they are called
    """

    settings_file = "config.toml"
    option = "--{}"  # how messages name an option
    inexact_option = "--resume=inexact"

    def __init__(
        self,
        config: Config,
        net: Layer,
        loss,
        make_optimizer: Callable[[], Any],
        data: Dataset,
        device: torch.device,
        out: Path | str | None = None,
        world: World = World(),
        feed=None,
        hooks: Sequence[Hook] = (),
        show_bar: bool = True,
    ):
        self.config, self.net, self.loss, self.data, self.device, self.world = (
            config,
            net,
            loss,
            data,
            device,
            world,
        )
        self.out, self.show_bar = None if out is None else Path(out), show_bar
        t = config.train
        if config.log.tensorboard:
            log.summary_writer()
        self.dtype = getattr(torch, t.dtype)
        self.feed = feed or Feed(config, data, device, world)
        self.optimizer, backward = world.prepare(config, net, loss, self.feed.batch, make_optimizer)
        self.param_groups = getattr(self.optimizer, "param_groups", ())
        in_parts = getattr(self.optimizer, "sharded", False)
        guard = Guard(t.on_nonfinite, device, *([world.all_true] if in_parts else []))
        # the same parameters, on faster kernels where there are some
        self.fast = lower(net, config.net.backend, device, self.dtype)
        self.backend = running_backend(config.net.backend, device, self.dtype)
        self.progress, self.resumed, self.factor = Progress(), False, 1.0
        self.per_epoch = [self.feed.steps(epoch) for epoch in range(t.epochs)]
        *self.starts, self.steps = accumulate(self.per_epoch, initial=0)
        self.due, self.clock, self.logger = Due(self), Clock(), LogHook(self)
        self.evaluator, self.saver = Evaluate(), CheckpointHook()
        own = [self.due, self.clock, GuardHook(guard), self.logger, Bar(), self.evaluator]
        # a checkpoint has what all other hooks made of the step
        self.hooks: list[Hook] = [*own, *hooks, self.saver, Capture(), StopHook()]
        self.learner = Learner(
            self.fast,
            loss,
            self.optimizer,
            guard,
            self.feed.selection if t.skip_fraction else None,
            backward,
            ignore=t.on_nonfinite == "ignore",
            batch=self.feed.batch if world.size > 1 else 0,
            metrics=(self.logger.epoch, self.logger.steps),
        )
        if device.type == "cuda" and t.optimizer != "adaptive" and world.size == 1 and self.feed.fixed_shapes:
            self.learner.capture()
        begin = time.perf_counter()
        make.initialize_from_data(net, data)
        world.broadcast([*net.params.values(), *net.buffers.values()])
        if world.size > 1:
            torch.manual_seed(checkpoint.seed(config.seed, 0, world.rank))  # each process has its own dropout
        self.clock.seconds = time.perf_counter() - begin
        self.update_frozen(0.0)

    @classmethod
    def from_config(
        cls,
        config: Config,
        device: torch.device,
        out: Path | str | None = None,
        world: World = World(),
        hooks: Sequence[Hook] = (),
    ) -> Run:
        """The run that a config describes. What is wrong is found before anything is written."""
        set_current_device(device)
        if device.type == "cpu":
            keep_freed_memory()
        net, loss, data = make.parts(config, device, world)
        return cls(
            config,
            net,
            loss,
            lambda: make.make_optimizer(config, net, loss),
            data,
            device,
            out,
            world,
            hooks=hooks,
        )

    def train(
        self, resume: bool | Literal["inexact"] = False, force: bool = False
    ) -> Metrics | OutputMetrics | None:
        """Train to the end, and write result.json.

        resume: resume from the run's last checkpoint, or start if there is none; "inexact": also where the
        run can't be bit-identical to one that was never stopped. force: start anew and overwrite an earlier
        run. Stopped after a signal.
        """
        if resume not in (False, True, "inexact"):
            raise UsageError(f'resume: expected True, False or "inexact", got {resume!r}')
        if resume and force:
            raise UsageError("{} and {} exclude each other".format(*self._options()))
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.due.signals)
            if isinstance(self.data.train_x, ImageStream):
                stack.callback(self.data.train_x.close)
            if self.out is not None:
                self.out.mkdir(parents=True, exist_ok=True)
                if self.world.is_main:
                    stack.enter_context(lock.locked(self.out))
                self.resumed = self._open(resume, force)
            try:
                facts = train_epochs(self)
            except Stopped as e:
                self.saver.save(self)
                hint = "" if self.out is None else f"; resume with {self.option.format('resume')}"
                raise Stopped(e.number, f" at step {self.at()} of {self.steps}{hint}") from None
            if self.out is not None and self.world.is_main:
                facts |= {"backend": self.backend}
                if self.backend != self.config.net.backend:
                    facts["no_native_kernels"] = why_not(self.device, self.dtype)
                result.write(self.out, self.config, self.data, self.evaluator.result, facts, self.device)
            Events(self)("after_result")
        return self.evaluator.result

    def _open(self, resume: bool | Literal["inexact"], force: bool) -> bool:
        """Prepare the folder. Returns whether a checkpoint was loaded. The main process decides."""
        assert self.out is not None
        main = self.world.is_main
        for part in self.out.glob(".*.part") if main else ():
            part.unlink(missing_ok=True)  # of a process that was killed while it saved
        found = [name for name in (LAST, result.RESULT) if (self.out / name).exists()] if main else []
        (resumes,) = self.world.max(bool(resume) and LAST in found)
        if resumes:
            checkpoint.load(self, self.out / LAST, resume == "inexact")
        elif main:
            if found and not force:
                what = "a finished run" if result.RESULT in found else "a run that isn't finished"
                one, other = self._options()
                way = f"{one} resumes it" if LAST in found else f"it has no {LAST} to resume from"
                raise UsageError(f"{self.out}: has {what}; {way}, {other} overwrites it")
            for name in FILES:
                (self.out / name).unlink(missing_ok=True)
            files.write_text(self.out / self.settings_file, dumps(with_absolute_root(self.config)))
        return bool(resumes)

    def _options(self) -> tuple[str, str]:
        """How messages name them."""
        return self.option.format("resume"), self.option.format("force")

    def at(self) -> int:
        """Steps taken so far."""
        p = self.progress
        return self.starts[p.epoch] + p.step if p.epoch < len(self.starts) else self.steps

    def update_frozen(self, epoch: float):
        """Parameters whose group ends at or before this epoch are constants from here on."""
        self.learner.frozen = (
            frozen_names(self.net.params, self.param_groups, epoch) if self.param_groups else frozenset()
        )

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """Of the data. A DataLoader's training data are unknown."""
        found = digest.parts(self.data)
        return found if isinstance(self.feed, Feed) else {k: v for k, v in found.items() if "train" not in k}

    # -- what it found ---------------------------------------------------------------------------------

    @property
    def metrics(self) -> dict[str, float]:
        """The scores on the test set: top1 and top5, or largest_error and within; empty without one."""
        found = self.evaluator.result
        return found.scores() if found else {}

    @property
    def top1(self) -> float | None:
        """Accuracy on the test set, from 0 to 1. None without a test set or without classes."""
        return self.metrics.get("top1")

    @property
    def top5(self) -> float | None:
        """Share of the test set whose class is among the best five. None with five classes or fewer."""
        found = self.evaluator.result
        return found.topk if isinstance(found, Metrics) and len(found.per_class) > 5 else None

    @property
    def history(self) -> list[dict]:
        """The log: one dict a line, by step and by epoch."""
        if self.out is not None:
            return log.read_entries(self.out)
        return self.logger.log.entries if isinstance(self.logger.log, log.MemoryLog) else []
