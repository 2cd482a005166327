"""All that a run is, at one moment between two steps: tensors and words, to save and to go on from.

Beside the net: momentum, what the epoch's steps add up to, who sits the epoch out, random numbers,
and how far the log is. What can be computed again from config, data and step isn't there.
"""

import tomllib

import torch

from nets import checkpoint
from nets.config import dumps, plain
from nets.errors import CheckpointError, DataError, UsageError

LAST, BEST = "last.safetensors", "best.safetensors"  # the newest checkpoint, and that of the best test
# keys that don't change what is learned
FREE = {"data.root", "data.memory_limit", "data.workers", "log", "save", "parallel"}


def standing(run) -> dict[str, torch.Tensor]:
    """Every tensor that lives from step to step, by its name in a checkpoint."""
    tensors = {f"net.{k}": v for k, v in (run.net.params | run.net.buffers).items()}
    tensors |= {f"optimizer.{k}": v for k, v in run.optimiser.state().items()}
    tensors |= {"epoch.sums": run.epoch_tally.sums, "line.sums": run.line_tally.sums}
    tensors |= {
        "guard.good": run.guard.good,
        "guard.skipped": run.guard.skipped,
        "guard.loss": run.guard.loss,
    }
    if run.config.train.skip:
        tensors |= {"selection.lessons": run.feed.selection.lessons}
        tensors |= {"selection.weight": run.feed.selection.weight}
    return tensors


def save(run, path):
    """Write a run's checkpoint."""
    d, p = run.data, run.progress
    tensors = standing(run) | {"random.cpu": torch.get_rng_state()}
    if run.device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(run.device)
    if d.mean is not None:
        tensors |= {"data.mean": d.mean, "data.std": d.std}
    words = {"format": 2, "classes": d.classes, "shape": d.shape, "samples": run.feed.n}
    words |= {"config": dumps(run.config), "progress": vars(p), "log": run.log.mark()}
    checkpoint.save(path, tensors, words)


def load(run, path) -> dict:
    """Put a run back to where its checkpoint has it; returns the log's mark.

    CheckpointError where it doesn't fit, UsageError where the config is another, DataError where the data are.
    """
    tensors, words = checkpoint.read(path)
    try:
        theirs, samples, log = words["config"], words["samples"], words["log"]
        progress = {k: words["progress"][k] for k in vars(run.progress)}
        theirs = tomllib.loads(theirs)
        plain(theirs)
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
    for name, t in here.items():
        found = tensors.get(name)
        if found is None or found.shape != t.shape or found.dtype != t.dtype:
            is_now = "missing" if found is None else f"{tuple(found.shape)} {found.dtype}"
            raise CheckpointError(f"{path}: {name} is {is_now}, not {tuple(t.shape)} {t.dtype}")
    try:
        torch.set_rng_state(tensors["random.cpu"])
        if run.device.type == "cuda" and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], run.device)
    except (KeyError, RuntimeError, TypeError) as e:
        raise CheckpointError(f"{path}: its random numbers are damaged ({e})") from None
    for name, t in here.items():
        t.copy_(tensors[name])
    for name, value in progress.items():
        setattr(run.progress, name, value)
    return log


def _possible(progress: dict, per_epoch: list[int]) -> bool:
    epoch, step, seconds, best = progress.values()
    if type(epoch) is not int or type(step) is not int or type(seconds) not in (int, float):
        return False
    fits = 0 <= epoch <= len(per_epoch) and 0 <= step <= [*per_epoch, 0][epoch] and 0 <= seconds < 1e12
    return fits and (best is None or type(best) in (int, float) and abs(best) < 1e300)


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
