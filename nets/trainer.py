"""The training run: epochs of steps, a test now and then, and everything written to one folder."""

import json
import math
import time
from pathlib import Path

import torch
from tqdm import tqdm

from nets import batches, checkpoint, data, figure, stream
from nets.adaptive import Adaptive
from nets.build import build
from nets.config import Config, dumps
from nets.device import keep_memory
from nets.errors import NonFiniteError, UsageError
from nets.evaluate import outputs, report, toy_report
from nets.loss import CrossEntropy, MeanSquaredError, Performance
from nets.muon import Muon
from nets.net import Sequential
from nets.optim import SGD, factor
from nets.step import train_step


def make_net(config: Config, shape, n_outputs: int, seed: int | None = None):
    """The config's net, its start values drawn from the seed. UsageError where it doesn't fit."""
    torch.manual_seed(config.seed if seed is None else seed)
    net, out = build(config.net.layers, shape, config.net.kernel)
    for layer in net.walk():
        if isinstance(layer, Sequential):
            layer.recompute = config.net.recompute
    if out != (n_outputs,):
        size = " × ".join(map(str, out))
        raise UsageError(f"net.layers: the net gives {size} numbers, {config.data.source} needs {n_outputs}")
    return net


def make_loss(config: Config, classes: bool):
    t = config.train
    if t.loss != "cross_entropy":
        if t.label_smoothing:
            raise UsageError("train.label_smoothing: only cross_entropy has it")
        return Performance() if t.loss == "performance" else MeanSquaredError()
    if not classes:
        others = '"performance" or "mean_squared_error"'
        raise UsageError(f"train.loss: {config.data.source} has no classes; use {others}")
    return CrossEntropy(t.label_smoothing)


def make_optimiser(config: Config, net, loss):
    t = config.train
    if not net.params:
        raise UsageError("net.layers: there is nothing to train in this net")
    if t.optimizer == "adaptive":
        for name in ("momentum", "nesterov", "weight_decay", "groups"):
            if getattr(t, name):
                raise UsageError(f"train.{name}: the adaptive optimizer has none; leave it out")
        return Adaptive(net.params, t.rate, maximize=loss.maximize)
    kind = Muon if t.optimizer == "muon" else SGD
    return kind(net.params, t.rate, t.momentum, t.nesterov, t.weight_decay, loss.maximize, t.groups)


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
        self.net = make_net(config, shape, self.data.outputs)
        weights = torch.promote_types(self.dtype, torch.float32)
        self.net.to(device, weights)
        self.data = self.data.to(device)
        self.optimiser = make_optimiser(config, self.net, self.loss)
        self.step = train_step(self.net, self.loss, self.optimiser)
        self.n = len(self.data.train_y)
        self.batch = min(t.batch_size, self.n)
        if t.optimizer == "adaptive" and self.batch < self.n:
            raise UsageError(f"train.batch_size: the adaptive optimizer needs all {self.n} samples at once")
        self.per_epoch = self.n // self.batch  # a remainder sits this epoch out
        self.steps = t.epochs * self.per_epoch
        self.rows: list[dict] = []
        self._fit()
        with torch.device("meta"):  # does every layer take a batch of this size?
            build(config.net.layers, shape)[0].forward(torch.empty(self.batch, *shape))

    def _check_variation(self):
        """UsageError where training samples can't be varied as [data] asks."""
        d, shape = self.config.data, self.data.shape
        varied = {"crop": d.crop, "cutout": d.cutout, "flip": d.flip != "none"}
        varied["random_resized"] = d.random_resized
        for name, wanted in varied.items():
            if wanted and len(shape) != 3:
                raise UsageError(f"data.{name}: {d.source} has no pictures")
            if wanted and self.config.train.optimizer == "adaptive":
                raise UsageError(f"data.{name}: the adaptive optimizer needs the same samples every time")
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

    def batch_of(self, plan: batches.Plan, i: int, x):
        """Batch i of an epoch, of samples x: (x, target), x as the net wants it."""
        part = plan.rows(i * self.batch, (i + 1) * self.batch)
        if x.dim() == 4:
            d = self.data
            x = batches.normalise(x, d.mean, d.std, self.dtype, self.config.train.channels_last)
            if part.hole is not None:
                x = batches.blank(x, part.hole, self.config.data.cutout)
        return x.to(self.dtype), self.data.train_y[part.order]

    def train(self):
        c, t = self.config, self.config.train
        self.out.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (self.out / name).unlink(missing_ok=True)  # of an earlier run under this name
        checkpoint.write(self.out / "config.toml", dumps(c))
        rate = torch.ones((), device=self.device)
        seconds, saved_at = 0.0, time.monotonic()
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
        self._result(result, seconds)
        return result

    def _epoch(self, epoch: int, rate, bar):
        """Train one epoch: (its line for the log, its seconds)."""
        t, begin = self.config.train, time.perf_counter()
        plan = batches.plan(
            self.n, self.data.shape, self.config.data, self.config.seed, epoch, self.device
        )
        loss_sum = torch.zeros((), device=self.device, dtype=torch.float64)
        right = torch.zeros((), device=self.device, dtype=torch.int64)
        shown = time.monotonic()
        warmup = round(t.warmup * self.per_epoch)
        feed = stream.feed(self.data.train_x, plan, self.batch, self.config.seed, epoch)
        for i in range(self.per_epoch):
            rate.fill_(factor(t.schedule, epoch * self.per_epoch + i, self.steps, warmup))
            loss, hit = self.step(*self.batch_of(plan, i, next(feed)), rate)
            loss_sum += loss
            right += hit
            bar.update()
            # reading a number waits for the device: now and then is enough
            if time.monotonic() - shown > 0.5 or i + 1 == self.per_epoch:
                shown, done = time.monotonic(), (i + 1) * self.batch
                mean = loss_sum.item() / (i + 1)
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

    def test(self):
        d = self.data
        z = self.z = outputs(self.net, d.test_x, d, self.dtype, self.config.train.channels_last)
        return report(z, d.test_y) if d.classes else toy_report(z, d.test_y)

    def _checkpoint(self, epoch: int):
        extra = {} if self.data.mean is None else {"data.mean": self.data.mean, "data.std": self.data.std}
        words = {"format": 1, "classes": self.data.classes, "shape": self.data.shape, "epoch": epoch}
        checkpoint.save(self.out / "checkpoint.safetensors", self.net, extra, words)

    def _result(self, result, seconds: float):
        d, c = self.data, self.config
        facts = result.facts(d.classes)
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
            "device": _device_name(self.device),
            "dtype": c.train.dtype,
            "seed": c.seed,
            "versions": versions(),
        }
        if c.data.on_error == "skip":
            facts["skipped"] = {"count": len(d.skipped), "files": d.skipped}
            stream.note(d.skipped)
        checkpoint.write(self.out / "result.json", json.dumps(facts, indent=2) + "\n")
        figure.curves(self.out / "curves.png", self.rows, c.name)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def versions() -> dict:
    import platform

    import torchvision

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
