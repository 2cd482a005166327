"""The training run: epochs of steps, a test now and then, and everything written to one folder."""

import json
import math
import time
from pathlib import Path

import torch
from tqdm import tqdm

from nets import batches, checkpoint, color, data, figure, stream
from nets.build import build
from nets.config import Config, Eval, dumps
from nets.device import called, keep_memory, versions
from nets.errors import NonFiniteError, Problem, UsageError
from nets.evaluate import outputs, report, toy_report
from nets.fused import fuse
from nets.graph import Captured
from nets.make import make_loss, make_net, make_optimiser
from nets.optim import constants, factor
from nets.selective import Selection
from nets.step import hold, train_step

FILES = ("metrics.jsonl", "result.json", "checkpoint.safetensors", "curves.png", "top5.png", "guesses.png")


class Run:
    """One training run of a config. `train()` does it all and returns the test's report."""

    def __init__(self, config: Config, device: torch.device, out: Path):
        self.config, self.device, self.out = config, device, Path(out)
        if device.type == "cpu":
            keep_memory()
        # whatever can be wrong with data, net or settings is found before anything is written
        self.data = data.load(config.data)
        t, shape = config.train, self.data.shape
        self._check_variation()
        self.loss = make_loss(config, bool(self.data.classes))
        self.dtype = getattr(torch, t.dtype)
        copies = 3 if device.type == "cpu" else 1  # with gradients and momenta
        self.net = make_net(config, shape, self.data.outputs, copies=copies)
        weights = torch.promote_types(self.dtype, torch.float32)
        self.net.to(device, weights)
        self.data = self.data.to(device)
        self.optimiser = make_optimiser(config, self.net, self.loss)
        # the same parameters, by way of faster kernels where there are such
        self.fast = fuse(self.net, device, self.dtype, config.net.kernel)
        self.step = train_step(self.fast, self.loss, self.optimiser, weighted=bool(t.skip))
        if device.type == "cuda" and t.optimizer != "adaptive":
            self.step = Captured(self.step, self._standing, lambda: tuple(self.frozen))
        self.n = len(self.data.train_y)
        self.batch = min(t.batch_size, self.n)
        if t.optimizer == "adaptive" and self.batch < self.n:
            raise UsageError(f"train.batch_size: the adaptive optimizer needs all {self.n} samples at once")
        self.selection = Selection(self.n, t.skip, t.skip_after, device)
        self.per_epoch = [self._batches(epoch) for epoch in range(t.epochs)]
        self.steps = sum(self.per_epoch)
        self.rows: list[dict] = []
        self.frozen: list[str] = []
        begin = time.perf_counter()
        self._fit()
        if config.data.color_jitter:
            self.axes = color.axes(self.data.train_x)
        self.fit_seconds = time.perf_counter() - begin
        self._freeze(0.0)
        with torch.device("meta"):  # does every layer take a batch of this size?
            stand_in, _ = build(config.net.layers, shape)
            stand_in.forward(torch.empty(self.batch, *shape))
            for i, side in enumerate(t.sizes):
                try:
                    stand_in.forward(torch.empty(self.batch, shape[0], side, side))
                except (RuntimeError, ValueError, Problem) as e:
                    reason = str(e).splitlines()[0]
                    raise UsageError(f"train.sizes[{i}]: the net can't take {side} × {side}: {reason}") from None

    def _batches(self, epoch: int) -> int:
        """Steps in an epoch: a remainder that doesn't fill a batch sits it out."""
        return max(1, (self.n - self.selection.out(epoch)) // self.batch)

    def _standing(self) -> list[torch.Tensor]:
        """Every tensor that lives from step to step."""
        return [*self.net.params.values(), *self.net.buffers.values(), *self.optimiser.velocity.values()]

    def _check_variation(self):
        """UsageError where training samples can't be varied as [data] asks."""
        d, shape = self.config.data, self.data.shape
        varied = {"crop": d.crop, "cutout": d.cutout, "flip": d.flip != "none"}
        varied |= {"crop_size": d.crop_size, "color_jitter": d.color_jitter, "random_resized": d.random_resized}
        for name, wanted in varied.items():
            if wanted and len(shape) != 3:
                raise UsageError(f"data.{name}: {d.source} has no pictures")
            if wanted and self.config.train.optimizer == "adaptive":
                raise UsageError(f"data.{name}: the adaptive optimizer needs the same samples every time")
        t = self.config.train
        for name, wanted in {"sizes": t.sizes, "skip": t.skip}.items():
            if wanted and (len(shape) != 3 or t.optimizer == "adaptive"):
                raise UsageError(f"train.{name}: only for pictures, and not with the adaptive optimizer")
        if self.config.eval.views != "one" and len(shape) != 3:
            raise UsageError(f"eval.views: {d.source} has no pictures")
        if d.color_jitter and shape[0] != 3:
            raise UsageError("data.color_jitter: grey pictures have no colours")
        if d.crop and d.crop >= min(shape[1:]):
            raise UsageError(f"data.crop: {d.crop} is too much for pictures of {shape[2]} × {shape[1]}")

    def _fit(self):
        """Let a first layer that is read off the pictures see some, 5,000 of CIFAR's, of all classes."""
        for layer in self.net.walk():
            if hasattr(layer, "fit"):
                if layer is not next(iter(self.net.children.values())):
                    raise UsageError(f"net.layers: {type(layer).__name__} can only be the first layer")
                d = self.data
                some = d.train_x[:: max(1, d.train_x.numel() // (5000 * 32 * 32 * 3))]
                layer.fit(batches.normalise(some, d.mean, d.std, torch.float32))

    def feed(self, epoch: int):
        """Yield an epoch's batches: (which samples (B), x as the net wants it, target)."""
        c, t, d = self.config, self.config.train, self.data
        plan = batches.plan(self.n, d.shape, c.data, c.seed, epoch, self.device)
        plan = self.selection.choose(plan, c.seed, epoch)
        size = min(self.batch, len(plan.order))
        smaller = t.sizes[min(epoch, len(t.sizes) - 1)] if t.sizes else 0
        samples = stream.feed(d.train_x, plan, size, c.seed, epoch, side=d.side)
        for i in range(len(plan.order) // size):
            part = plan.rows(i * size, (i + 1) * size)
            yield part.order, self._seen(part, next(samples), smaller), d.train_y[part.order]

    def learn(self, which, x, target, rate):
        """One step: (loss (), hits ())."""
        if not self.config.train.skip:
            return self.step(x, target, rate)
        loss, hit, lessons = self.step(x, target, rate, self.selection.weight[which])
        self.selection.note(which, lessons)
        return loss, hit

    def _seen(self, part: batches.Plan, x, side: int):
        """Samples x as the net wants them, at side × side if one is given."""
        if x.dim() == 4:
            d = self.data
            x = batches.normalise(x, d.mean, d.std, self.dtype, self.config.train.channels_last)
            if part.color is not None:
                x = color.jitter(x, part.color, self.axes, d.std)
            if part.hole is not None:
                x = batches.blank(x, part.hole, self.config.data.cutout)
            if side and side != x.shape[-1]:
                x = batches.resize(x, side)
        return x.to(self.dtype)

    def train(self):
        c, t = self.config, self.config.train
        self.out.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (self.out / name).unlink(missing_ok=True)  # of an earlier run under this name
        checkpoint.write(self.out / "config.toml", dumps(c))
        rate = torch.ones((), device=self.device)
        seconds, saved_at = self.fit_seconds, time.monotonic()
        with (
            tqdm(total=self.steps, desc=c.name, unit="step", disable=None) as bar,
            open(self.out / "metrics.jsonl", "w", encoding="utf-8") as log,
        ):
            for epoch in range(t.epochs):
                row, taken = self._epoch(epoch, rate, bar)
                seconds += taken
                last = epoch + 1 == t.epochs
                if last and t.optimizer == "adaptive":
                    self.optimiser.settle()  # its last step was never judged
                if last or (epoch + 1) % t.eval_every == 0:
                    result = self.test()
                    row |= result.scores()
                self.rows.append(row | {"seconds": round(seconds, 3)})
                log.write(json.dumps(self.rows[-1]) + "\n")
                log.flush()
                if last or time.monotonic() - saved_at > 30:
                    self._checkpoint(epoch + 1)
                    saved_at = time.monotonic()
        facts = {}
        if c.eval.views != "one":
            facts["one_view"] = result.scores()
            begin = time.perf_counter()
            result = self.test(c.eval)
            facts["eval_seconds"] = round(time.perf_counter() - begin, 3)
        self._result(result, seconds, facts)
        return result

    def _epoch(self, epoch: int, rate, bar):
        """Train one epoch: (its line for the log, its seconds)."""
        t, begin = self.config.train, time.perf_counter()
        steps, before, done = self.per_epoch[epoch], sum(self.per_epoch[:epoch]), 0
        loss_sum = torch.zeros((), device=self.device, dtype=torch.float64)
        right = torch.zeros((), device=self.device, dtype=torch.int64)
        shown = time.monotonic()
        warmup = round(t.warmup * self.per_epoch[0])
        for i, batch in enumerate(self.feed(epoch)):
            self._freeze(epoch + i / steps)
            loss, hit = self.learn(*batch, rate.fill_(factor(t.schedule, before + i, self.steps, warmup, t.floor)))
            done += len(batch[0])
            loss_sum += loss
            right += hit
            bar.update()
            # reading a number waits for the device: now and then is enough
            if time.monotonic() - shown > 0.5 or i + 1 == steps:
                shown = time.monotonic()
                mean = loss_sum.item() / (done if t.reduction == "sum" else i + 1)
                accuracy = right.item() / done
                if not math.isfinite(mean):
                    raise NonFiniteError(
                        f"the loss became {mean} in epoch {epoch + 1} by step {i + 1}; a lower train.rate"
                        f" may help (now {t.rate:g}); {self.out}/metrics.jsonl has the epochs before"
                    )
                taken = time.perf_counter() - begin
                wait = stream.waited(self.data.train_x, taken)
                words = [f"loss {mean:.4g}, acc {accuracy:.1%}, {done / taken:,.0f} pic/s"]
                bar.set_postfix_str(", ".join(words + [f"{k} {v:.0%}" for k, v in wait.items()]), False)
        row = {"epoch": epoch + 1, "loss": mean, "train_top1": accuracy} | wait
        return row, time.perf_counter() - begin

    def _freeze(self, epoch: float):
        """Parameters whose time is over are constants from here on."""
        names = constants(self.net.params, self.config.train.groups, epoch)
        if names != self.frozen:
            hold(self.fast, self.optimiser, names)
            self.frozen = names

    def test(self, asked: Eval = Eval()):
        d = self.data
        channels_last = self.config.train.channels_last
        z = self.z = outputs(self.fast, d.test_x, d, self.dtype, channels_last, asked=asked)
        return report(z, d.test_y) if d.classes else toy_report(z, d.test_y)

    def _checkpoint(self, epoch: int):
        tensors = {f"net.{k}": t for k, t in (self.net.params | self.net.buffers).items()}
        if self.data.mean is not None:
            tensors |= {"data.mean": self.data.mean, "data.std": self.data.std}
        words = {"format": 1, "classes": self.data.classes, "shape": self.data.shape, "epoch": epoch}
        checkpoint.save(self.out / "checkpoint.safetensors", tensors, words)

    def _result(self, result, seconds: float, more: dict):
        d, c = self.data, self.config
        facts = result.facts(d.classes) | more
        if d.classes:
            z, y = self.z.cpu(), d.test_y.cpu()
            best, worst = figure.picked(z, y)
            rows = [("The most confident right answers", best), ("The worst mistakes", worst)]
            index = best + worst
            rows = [(title, [index.index(i) for i in row]) for title, row in rows]
            pictures = d.test_x[index].cpu().numpy()
            labels = y[index].tolist()
            figure.top5(self.out / "top5.png", pictures, z[index], d.classes, labels, rows)
        facts |= {
            "name": c.name,
            "parameters": sum(p.numel() for p in self.net.params.values()),
            "seconds": round(seconds, 3),
            "device": called(self.device),
            "dtype": c.train.dtype,
            "seed": c.seed,
            "versions": versions(),
        }
        if c.data.on_error == "skip":
            facts["skipped"] = {"count": len(d.skipped), "files": d.skipped}
            stream.note(d.skipped)
        checkpoint.write(self.out / "result.json", json.dumps(facts, indent=2) + "\n")
        figure.curves(self.out / "curves.png", self.rows, c.name)
