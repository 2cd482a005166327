"""The training run: epochs of steps, a test now and then, and everything written to one folder."""

import json
import math
import time
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from nets import batches, checkpoint, data, figure
from nets.adaptive import Adaptive
from nets.build import build
from nets.config import Config, dumps
from nets.device import keep_memory
from nets.errors import NonFiniteError, UsageError
from nets.evaluate import Report, outputs, report, toy_report
from nets.loss import CrossEntropy, Performance
from nets.optim import SGD, factor
from nets.step import train_step


def make_net(config: Config, shape, n_outputs: int, seed: int | None = None):
    """The config's net, its start values drawn from the seed. UsageError where it doesn't fit."""
    torch.manual_seed(config.seed if seed is None else seed)
    net, out = build(config.net.layers, shape, config.net.kernel)
    if out != (n_outputs,):
        size = " × ".join(map(str, out))
        raise UsageError(f"net.layers: the net gives {size} numbers, {config.data.source} needs {n_outputs}")
    return net


def make_loss(config: Config, classes: bool):
    t = config.train
    if t.loss == "performance":
        return Performance()
    if not classes:
        raise UsageError(f'train.loss: {config.data.source} has no classes; use "performance"')
    return CrossEntropy(t.label_smoothing)


def make_optimiser(config: Config, net, loss):
    t = config.train
    if t.optimizer == "adaptive":
        for name in ("momentum", "nesterov", "weight_decay", "groups"):
            if getattr(t, name):
                raise UsageError(f"train.{name}: the adaptive optimizer has none; leave it out")
        return Adaptive(net.params, t.rate, maximize=loss.maximize)
    return SGD(net.params, t.rate, t.momentum, t.nesterov, t.weight_decay, loss.maximize, t.groups)


class Run:
    """One training run of a config. `train()` does it all and returns the test's report."""

    def __init__(self, config: Config, device: torch.device, out: Path):
        self.config, self.device, self.out = config, device, Path(out)
        if device.type == "cpu":
            keep_memory()
        # whatever can be wrong with data, net or settings is found before anything is written
        self.data = data.load(config.data)
        t, shape = config.train, self.data.shape
        if config.data.crop and max(config.data.crop + 1, 0) > min(shape[1:], default=0):
            raise UsageError(f"data.crop: {config.data.crop} is too much for pictures of {shape[1:]}")
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
        self.per_epoch = self.n // self.batch  # a remainder sits this epoch out
        self.steps = t.epochs * self.per_epoch
        self.rows: list[dict] = []

    def batch_of(self, plan: batches.Plan, i: int):
        """Batch i of an epoch: (x, target), x as the net wants it."""
        part = plan.rows(i * self.batch, (i + 1) * self.batch)
        x = batches.take(self.data.train_x, part)
        if x.dim() == 4:
            d = self.data
            x = batches.normalise(x, d.mean, d.std, self.dtype, self.config.train.channels_last)
            if part.hole is not None:
                x = batches.blank(x, part.hole, self.config.data.cutout)
        return x.to(self.dtype), self.data.train_y[part.order]

    def train(self):
        c, t = self.config, self.config.train
        self.out.mkdir(parents=True, exist_ok=True)
        for name in ("metrics.jsonl", "result.json", "checkpoint.safetensors", "curves.png", "top5.png"):
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
                if last or (epoch + 1) % t.eval_every == 0:
                    result = self.test()
                    row |= _test_row(result)
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
        for i in range(self.per_epoch):
            rate.fill_(factor(t.schedule, epoch * self.per_epoch + i, self.steps, warmup))
            loss, hit = self.step(*self.batch_of(plan, i), rate)
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
                pace = done / (time.perf_counter() - begin)
                bar.set_postfix_str(f"loss {mean:.4g}, acc {accuracy:.1%}, {pace:,.0f} pic/s", False)
        row = {"epoch": epoch + 1, "loss": mean, "train_top1": accuracy}
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
        facts = asdict(result)
        if isinstance(result, Report):
            facts["chance_top1"], facts["chance_topk"] = result.chance
            facts["classes"] = d.classes
            facts["confused"] = [[d.classes[a], d.classes[b], n] for a, b, n in result.confused]
            best, worst = figure.picked(self.z, d.test_y)
            rows = [("The most confident right answers", best), ("The worst mistakes", worst)]
            index = best + worst
            rows = [(title, [index.index(i) for i in row]) for title, row in rows]
            pictures = d.test_x[index].cpu().numpy()
            figure.top5(
                self.out / "top5.png", pictures, self.z[index], d.classes, d.test_y[index].tolist(), rows
            )
        facts |= {
            "name": c.name,
            "parameters": sum(p.numel() for p in self.net.params.values()),
            "seconds": round(seconds, 3),
            "device": _device_name(self.device),
            "dtype": c.train.dtype,
            "seed": c.seed,
            "versions": versions(),
        }
        checkpoint.write(self.out / "result.json", json.dumps(facts, indent=2) + "\n")
        figure.curves(self.out / "curves.png", self.rows, c.name)


def _test_row(result) -> dict:
    if isinstance(result, Report):
        return {"top1": result.top1, "topk": result.topk, "k": result.k}
    return {"largest_error": result.largest_error, "within": result.within}


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
