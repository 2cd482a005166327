"""The training run: epochs of steps, and everything written to one folder.

A run can be ended at any moment and goes on from its last checkpoint as if it had never been ended.
"""

import contextlib
import json
import math
import time
from itertools import accumulate
from pathlib import Path

import torch
from tqdm import tqdm

from nets.common import files
from nets.common.device import keep_freed_memory, resident_memory_mb, set_current_device
from nets.common.errors import NonFiniteError, Stopped, UsageError
from nets.data import datasets as data
from nets.data import stream
from nets.distributed.agree import Agreement
from nets.distributed.together import together
from nets.distributed.world import World
from nets.kernels import lower
from nets.optim.param_groups import frozen_names
from nets.optim.schedules import lr_factor
from nets.training import lock, outcome, state, validate
from nets.training.config import Config, Eval, dumps
from nets.training.cuda_graph import Captured
from nets.training.evaluate import outputs, report, toy_report
from nets.training.feed import Feed
from nets.training.guard import Guard
from nets.training.log import Log, rows, summary_writer
from nets.training.make import fit, make_loss, make_net
from nets.training.metrics import Tally
from nets.training.signals import SIGNALS, Stop
from nets.training.state import BEST, LAST, Progress
from nets.training.step import train_step

BAD = "nonfinite.json"
PICTURES = ("curves.png", "top5.png", "guesses.png")
FILES = ("metrics.jsonl", "times.jsonl", "result.json", LAST, BEST, BAD, *PICTURES)


class Run:
    """One training run of a config. `train()` does it all and returns the test's report."""

    def __init__(self, config: Config, device: torch.device, out: Path, world: World = World()):
        self.config, self.device, self.out, self.world = config, device, Path(out), world
        set_current_device(device)
        if device.type == "cpu":
            keep_freed_memory()
        # whatever can be wrong with data, net or settings is found before anything is written
        if config.log.tensorboard:
            summary_writer()
        with world.in_turn():
            self.data = data.load(config.data, config.augment)
        t, shape = config.train, self.data.shape
        self.loss = make_loss(config, bool(self.data.classes))
        self.dtype = getattr(torch, t.dtype)
        copies = 3 if device.type == "cpu" else 1  # with gradients and momenta
        self.net = make_net(config, shape, self.data.num_outputs, copies=copies)
        self._validate()
        self.net.to(device, torch.promote_types(self.dtype, torch.float32))
        self.data = self.data.to(device)
        self.feed = Feed(config, self.data, device, world)
        self.optimizer, backward = together(config, self.net, self.loss, self.feed.batch, world)
        pieces = config.distributed.shard_optimizer and world.size > 1
        self.guard = Guard(t.on_nonfinite, device, *([world.every] if pieces else []))
        # the same parameters, by way of faster kernels where there are such
        self.fast = lower(self.net, config.net.backend, device, self.dtype)
        guard = None if t.on_nonfinite == "ignore" else self.guard
        self.step = train_step(self.fast, self.loss, self.optimizer, bool(t.skip_fraction), guard, backward)
        self.captured = None
        if device.type == "cuda" and t.optimizer != "adaptive" and world.size == 1:
            standing = lambda: [*state.standing(self).values(), self.feed.selection.updated]  # noqa: E731
            self.captured = self.learn = Captured(self.learn, standing, lambda: self.frozen)
        self.per_epoch = [self.feed.steps(epoch) for epoch in range(t.epochs)]
        *self.starts, self.steps = accumulate(self.per_epoch, initial=0)
        self.epoch_tally, self.line_tally = Tally(device), Tally(device)
        self.progress, self.frozen, self.stop, self.agree = Progress(), frozenset(), Stop(), Agreement(world)
        begin = time.perf_counter()
        fit(self.net, self.data)
        world.same([*self.net.params.values(), *self.net.buffers.values()])
        if world.size > 1:
            torch.manual_seed(state.seed(config.seed, 0, world.rank))  # each drops its own
        self.progress.seconds = time.perf_counter() - begin
        self._freeze(0.0)

    def _validate(self):
        """UsageError where config, data and net don't go together."""
        d, samples = self.data, len(self.data.train_y)
        validate.check(
            self.config,
            shape=d.shape,
            classes=bool(d.classes),
            streamed=isinstance(d.train_x, stream.ImageStream),
            samples=samples,
            batch=min(self.config.train.batch_size, samples),
            net=self.net,
            params=self.net.params,
        )

    def train(self, resume: bool = False, force: bool = False):
        """resume: go on from the run's last checkpoint, or begin where there is none. force: begin
        anew over a run that is there. Returns the test's report; Stopped after a signal."""
        self.since = self.saved_at = time.perf_counter()
        self.out.mkdir(parents=True, exist_ok=True)
        first = self.world.first
        with lock.hold(self.out) if first else contextlib.nullcontext(), self.stop:
            self._begin(resume, force)
            try:
                with contextlib.closing(self.log) if first else contextlib.nullcontext():
                    return self._train()
            except Stopped as e:
                self._save()
                at = f" at step {self._at()} of {self.steps}"
                raise Stopped(e.number, f"{at}; go on with --resume") from None

    def _begin(self, resume: bool, force: bool):
        """The folder as it should be at the start, and the log open. The first process decides."""
        first, mark = self.world.first, None
        for left in self.out.glob(".*.safetensors.*.part") if first else ():
            left.unlink(missing_ok=True)  # of a process that was killed while it saved
        there = [name for name in (LAST, "result.json") if (self.out / name).exists()] if first else []
        (goes_on,) = self.world.most(resume and LAST in there)
        if goes_on:
            mark = state.load(self, self.out / LAST)
        elif first:
            if there and not force:
                is_there = "a finished run" if "result.json" in there else "a run that isn't finished"
                raise UsageError(f"{self.out}: has {is_there}; --resume goes on with it, --force begins anew")
            for name in FILES:
                (self.out / name).unlink(missing_ok=True)
            files.write_text(self.out / "config.toml", dumps(self.config))
        if first:
            given = self.config.log.tensorboard
            self.log = Log.resume(self.out, mark, given) if goes_on else Log(self.out, given)
        if not goes_on:
            self._save()

    def _prepare(self):
        """Have a step captured for every size of picture, with whatever is constant then: no training."""
        if self.captured is None:
            return
        t, p = self.config.train, self.progress
        ends = {group["until_epoch"] for group in t.param_groups if "until_epoch" in group}
        for epoch in range(p.epoch, t.epochs):
            batch = self.feed.blank(epoch)
            for moment in sorted({epoch, *(end for end in ends if epoch < end < epoch + 1)}):
                self._freeze(moment)
                self.captured.prepare(*batch, torch.zeros((), device=self.device))
        self._freeze(p.epoch + p.step / self.per_epoch[p.epoch] if p.epoch < t.epochs else t.epochs)

    def _train(self):
        c, t, p, result = self.config, self.config.train, self.progress, None
        begin = time.perf_counter()
        with self._uncounted():
            self._prepare()
        prepared = time.perf_counter() - begin
        quiet = None if self.world.first else True
        with tqdm(total=self.steps, initial=self._at(), desc=c.name, unit="step", disable=quiet) as bar:
            while p.epoch < t.epochs:
                facts = self._epoch(bar)
                last = p.epoch + 1 == t.epochs
                if last and t.optimizer == "adaptive":
                    self.optimizer.restore_best()  # its last step was never judged
                better = False
                if last or (p.epoch + 1) % t.eval_every == 0:
                    result = self.test()
                    facts |= result.scores()
                    score = result.score()
                    better = math.isfinite(score) and (p.best is None or score > p.best)
                    p.best = score if better else p.best
                p.epoch, p.step = p.epoch + 1, 0
                self._line(
                    {"epoch": p.epoch} | facts, stream.wait_share(self.data.train_x, self.epoch_seconds)
                )
                self.epoch_tally.reset()
                if better or last or self._now(now=True)[2]:
                    self._save(better)
        result = result or self.test()  # resumed after its last step
        parameters = sum(w.numel() for w in self.net.params.values())
        facts = {"parameters": parameters, "seconds": round(p.seconds, 3)}
        if self.captured:
            facts["capture_seconds"] = round(prepared, 3)  # not in those above
        if c.eval.tta != "none":
            facts["one_view"] = result.scores()
            begin = time.perf_counter()
            result = self.test(c.eval)
            facts["eval_seconds"] = round(time.perf_counter() - begin, 3)
        if t.on_nonfinite == "skip":
            facts["skipped_steps"] = int(self.guard.skipped)
        if self.world.first:
            outcome.write(self.out, c, self.data, self.z, result, rows(self.out), facts, self.device)
        return result

    def _epoch(self, bar) -> dict:
        """Train what is left of an epoch: its means."""
        t, p = self.config.train, self.progress
        steps, before = self.per_epoch[p.epoch], self.starts[p.epoch]
        warmup, rate = round(t.warmup_epochs * self.per_epoch[0]), torch.ones((), device=self.device)
        begin = shown = time.perf_counter()
        for batch in self.feed(p.epoch, p.step) if p.step < steps else ():
            self._freeze(p.epoch + p.step / steps)
            now = lr_factor(t.schedule, before + p.step, self.steps, warmup, t.min_lr / t.lr)
            self.learn(*batch, rate.fill_(now))
            p.step += 1
            bar.update()
            line = (before + p.step) % self.config.log.every_steps == 0
            look, stop, due = self._now(time.perf_counter() - shown > 0.5)
            # reading a number waits for the device: now and then is enough, unless the device is the host
            if line or look or self.device.type == "cpu":
                self._check()
            if line:
                self._line({**self._means(self.line_tally), "rate": now * t.lr})
                self.line_tally.reset()
            if look:
                shown = time.perf_counter()
                self._show(bar, shown - begin)
            if due:
                self._save()
            if stop:
                raise Stopped(stop)
        self._check()
        self._tick()
        self.epoch_seconds = time.perf_counter() - begin
        return self._means(self.epoch_tally)

    def learn(self, which, x, target, rate):
        """One step, counted; returns its loss ()."""
        if self.config.train.skip_fraction:
            told = self.step(x, target, rate, self.feed.selection.weight[which], frozen=self.frozen)
            self.feed.selection.update(which, told.scores)
        else:
            told = self.step(x, target, rate, frozen=self.frozen)
        if self.config.train.on_nonfinite == "ignore":  # but for the loss
            told = told._replace(ok=self.guard.check(told.loss, {}))
        for tally in (self.epoch_tally, self.line_tally):
            tally.add(told.loss, told.num_correct, told.ok)
        return told.loss

    def _at(self) -> int:
        """Steps taken so far."""
        p = self.progress
        return self.starts[p.epoch] + p.step if p.epoch < len(self.starts) else self.steps

    def _means(self, tally: Tally) -> dict:
        return tally.means(self.feed.batch, self.config.train.reduction == "sum")

    def _show(self, bar, seconds: float):
        means, done = self._means(self.epoch_tally), self.epoch_tally.steps() * self.feed.batch
        words = [f"loss {means['loss']:.4g}, acc {means['train_top1']:.1%}, {done / seconds:,.0f} pic/s"]
        wait = stream.wait_share(self.data.train_x, seconds)
        bar.set_postfix_str(", ".join(words + [f"{k} {v:.0%}" for k, v in wait.items()]), False)

    def _tick(self):
        """Count the time since the last look as training."""
        now = time.perf_counter()
        self.progress.seconds += now - self.since
        self.since = now

    def _line(self, facts: dict, times: dict | None = None):
        """A line for the logs."""
        self._tick()
        done, p = self._at(), self.progress
        if not self.world.first:
            return
        speed = {"seconds": round(p.seconds, 3), "per_second": round(done * self.feed.batch / p.seconds, 1)}
        self.log.add(
            {"step": done, **facts}, {"step": done, **speed, "memory": resident_memory_mb(), **(times or {})}
        )

    def _check(self):
        """NonFiniteError where a step wasn't finite, or, where such are skipped, too many weren't."""
        t, p, size = self.config.train, self.progress, self.feed.batch
        what = self.guard.message(t.max_nonfinite_steps)
        if not what:
            return
        # after that step none counted, and the device may be some steps on
        bad = p.step - 1 if t.on_nonfinite == "skip" else self.epoch_tally.steps()
        which = self.feed.plan(p.epoch, again=True).batch(bad * size, (bad + 1) * size).order.tolist()
        told = {"epoch": p.epoch + 1, "step": bad + 1, "samples": which}
        if self.world.first:
            files.write_text(self.out / BAD, json.dumps(told) + "\n")
        if t.on_nonfinite == "stop":  # nothing has changed since
            p.step = bad
            self.guard.good.fill_(True)
            self._save()
        raise NonFiniteError(
            f"{what} at step {bad + 1} of epoch {p.epoch + 1}; a lower train.lr may help (now {t.lr:g});"
            f" the batch is listed in {self.out / BAD}, and {LAST} has the last good state"
        )

    def _freeze(self, epoch: float):
        """Parameters whose time is over are constants from here on."""
        self.frozen = frozen_names(self.net.params, self.config.train.param_groups, epoch)

    def test(self, asked: Eval = Eval()):
        d, wide = self.data, self.config.train.channels_last
        with self._uncounted():
            # of several processes none may stop by itself: they do after a step
            check = self.stop.check if self.world.size == 1 else lambda: None
            how = {"asked": asked, "between": check, "world": self.world}
            z = self.z = outputs(self.fast, d.test_x, d, self.dtype, wide, **how)
        return report(z, d.test_y) if d.classes else toy_report(z, d.test_y)

    def _now(self, look: bool = False, now: bool = False) -> tuple[bool, int, bool]:
        """What is due after this step: (a look at the numbers, the end by this signal, a checkpoint).

        Several processes do the same after the same step; `now` asks them in any case.
        """
        s, at = self.config.checkpoint, self._at()
        clock = time.perf_counter() - self.saved_at > s.every_seconds
        stops = [self.stop.number == kind for kind in SIGNALS]
        if self.world.size > 1:
            said = self.agree(at, clock, *stops, now=now)
            look, clock, *stops = (True, *said) if said else (False, False)
        stop = next((kind for kind, asked in zip(SIGNALS, stops) if asked), 0)
        return look, stop, clock or bool(s.every_steps and at % s.every_steps == 0)

    def _save(self, best: bool = False):
        """Write the last checkpoint, which may also be the best."""
        with self._uncounted():
            state.save(self, self.out / LAST)
            if best and self.world.first:
                files.link(self.out / LAST, self.out / BEST)
        self.saved_at = time.perf_counter()

    @contextlib.contextmanager
    def _uncounted(self):
        """What is done within isn't training, and its time isn't counted."""
        self._tick()
        try:
            yield
        finally:
            self.since = time.perf_counter()
