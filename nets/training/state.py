"""All that a run is, at one moment between two steps: tensors and words, to save and to go on from.

Beside the net: momentum, what the epoch's steps add up to, who sits the epoch out, random numbers,
and how far the log is. What can be computed again from config, data and step isn't there.
"""

import tomllib
from dataclasses import dataclass

import torch

from nets.common import tensorfile
from nets.common.device import generator_state
from nets.common.errors import CheckpointError, DataError, UsageError
from nets.training.toml import check_plain, dumps

LAST, BEST = "last.safetensors", "best.safetensors"  # the newest checkpoint, and that of the best test
# keys that don't change what is learned
FREE = {"data.root", "data.memory_limit_mb", "data.num_workers", "log", "checkpoint"}
FREE |= {"distributed.shard_optimizer", "distributed.bucket_mb"}


@dataclass
class Progress:
    """How far a run is: whole epochs, steps of the next one, seconds of training, the best score so far."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float | None = None


def standing(run) -> dict[str, torch.Tensor]:
    """Every tensor that lives from step to step, by its name in a checkpoint."""
    tensors = {f"net.{k}": v for k, v in (run.net.params | run.net.buffers).items()}
    tensors |= {f"optimizer.{k}": v for k, v in run.optimizer.state().items()}
    tensors |= {"epoch.sums": run.epoch_tally.sums, "line.sums": run.line_tally.sums}
    tensors |= {f"guard.{k}": getattr(run.guard, k) for k in ("good", "skipped", "loss")}
    if run.config.train.skip_fraction:
        tensors |= {"selection.scores": run.feed.selection.scores}
        tensors |= {"selection.weight": run.feed.selection.weight}
    return tensors


def save(run, path):
    """Write a run's checkpoint. All processes have to ask, and the first one writes."""
    d, p = run.data, run.progress
    run.feed.selection.synchronize(run.world)
    draws = {f"random.{kind}": generator_state(where)[None] for kind, where in _random(run)}
    draws = {name: run.world.gather(own, run.world.size) for name, own in draws.items()}
    tensors = standing(run) | draws
    if not run.world.first:
        return
    if d.mean is not None:
        tensors |= {"data.mean": d.mean, "data.std": d.std}
    words = {"format": 2, "classes": d.classes, "shape": d.shape, "samples": run.feed.n}
    words |= {"config": dumps(run.config), "progress": vars(p), "log": run.log.mark()}
    tensorfile.save(path, tensors, words)


def seed(seed: int, step: int, rank: int) -> int:
    """Of the random numbers that a process draws for itself from a step on."""
    return ((seed * 1_000_003 + step) * 65_537 + rank + 1) % 2**63


def _random(run):
    """(kind, device) of each generator that a step draws from."""
    return {"cpu": torch.device("cpu"), run.device.type: run.device}.items()


def _set_random(run, tensors: dict, progress: dict):
    """Each process's own random numbers go on, or begin anew where there were more or fewer processes."""
    if len(tensors["random.cpu"]) != run.world.size or tensors["random.cpu"].dim() != 2:
        at = progress["epoch"] * 65_537 + progress["step"]
        torch.manual_seed(seed(run.config.seed, at, run.world.rank))
        return
    for kind, where in _random(run):
        if f"random.{kind}" in tensors:
            own = tensors[f"random.{kind}"][run.world.rank].clone()  # it is read from a storage's start
            generator_state(where, own)


def load(run, path) -> dict:
    """Put a run back to where its checkpoint has it; returns the log's mark.

    CheckpointError where it doesn't fit, UsageError where the config differs, DataError where the data does.
    """
    tensors, words = tensorfile.read(path)
    try:
        theirs, samples, log = words["config"], words["samples"], words["log"]
        progress = {k: words["progress"][k] for k in vars(run.progress)}
        theirs = tomllib.loads(theirs)
        check_plain(theirs)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, UsageError) as e:
        raise CheckpointError(f"{path}: can't be resumed from ({e})") from None
    _same(theirs, tomllib.loads(dumps(run.config)), path)
    if not _possible(progress, run.per_epoch):
        raise CheckpointError(f"{path}: its progress, {progress}, can't be")
    d = run.data
    known = {} if d.mean is None else {"data.mean": d.mean, "data.std": d.std}
    if samples != run.feed.n or any(not _equal(tensors.get(k), v) for k, v in known.items()):
        raise DataError(f"{run.config.data.root}: not the pictures that {path} was trained on")
    here = standing(run)
    tensorfile.check(here, tensors, path)
    try:
        _set_random(run, tensors, progress)
    except (KeyError, RuntimeError, TypeError) as e:
        raise CheckpointError(f"{path}: its random numbers are damaged ({e})") from None
    for name, t in here.items():
        t.copy_(tensors[name])
    if hasattr(run.optimizer, "load"):  # it keeps a part alone
        prefix = "optimizer."
        run.optimizer.load({k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)})
    for name, value in progress.items():
        setattr(run.progress, name, value)
    return log


def _possible(progress: dict, per_epoch: list[int]) -> bool:
    epoch, step, seconds, best = progress.values()
    if type(epoch) is not int or type(step) is not int or type(seconds) not in (int, float):
        return False
    fits = 0 <= epoch <= len(per_epoch) and 0 <= step <= [*per_epoch, 0][epoch] and 0 <= seconds < 1e12
    return fits and (best is None or (type(best) in (int, float) and abs(best) < 1e300))


def _equal(a, b) -> bool:
    return a is not None and a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b.cpu())


def _same(theirs: dict, ours: dict, path, where: str = ""):
    """UsageError at the first key whose value another config has, unless it is a free one."""
    for name in dict.fromkeys([*ours, *theirs]):
        key = where + name
        a, b = theirs.get(name), ours.get(name)
        if key in FREE or a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            _same(a, b, path, f"{key}.")
        else:
            raise UsageError(
                f"{key}: {path} was trained with {a!r}, now it is {b!r}; resume with the same config"
            )
