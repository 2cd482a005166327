"""A checkpoint: everything that a run is between two steps, to resume from.

That is the net, the optimizer's state, each hook's state (the metrics so far, how far the log goes, …),
which samples are skipped, and the states of the random number generators. What follows from config, data
and step is computed again.
"""

import tomllib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nets.common import tensorfile
from nets.common.device import generator_state
from nets.common.errors import CheckpointError, DataError, UsageError
from nets.data.digest import comparable
from nets.training import exact
from nets.training.toml import check_plain, dumps

FORMAT = 4
LAST, BEST = "last.safetensors", "best.safetensors"  # the newest, and the best by validation
# keys that don't change the result
FREE = {"name", "data.root", "data.memory_limit_mb", "data.num_workers", "log", "checkpoint"}
FREE |= {"distributed.shard_optimizer", "distributed.bucket_mb", "distributed.connect_seconds"}
FREE |= {"data.max_megapixels"}
RESERVED = ("net", "optimizer", "selection", "random", "data")  # the first words of other tensors' names


@dataclass
class Progress:
    """How far a run is: whole epochs, and steps of the next one."""

    epoch: int = 0
    step: int = 0


def _split(run) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """The run's tensors by name, and the hooks' other state by hook.

    UsageError for a hook with state, but without a name of its own: another's state would replace it.
    """
    tensors, values, taken = run.learner.tensors(), {}, {"", *RESERVED}
    for hook in run.hooks:
        state = hook.state()
        if state and hook.name in taken:
            kind = type(hook).__name__
            raise UsageError(f'hook {kind}: has state, so it needs a `name` of its own, not "{hook.name}"')
        taken |= {hook.name} if state else set()
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"{hook.name}.{name}"] = value
            else:
                values.setdefault(hook.name, {})[name] = value
    return tensors, values


def save(run, path):
    """Write a run's checkpoint. All processes must call it; the main one writes."""
    d = run.data
    run.feed.selection.synchronize(run.world)
    states = {f"random.{kind}": _generator_state(device) for kind, device in _generators(run)}
    states = {name: run.world.gather(own, run.world.size) for name, own in states.items()}
    tensors, values = _split(run)
    if not run.world.is_main:
        return
    tensors |= states
    if d.mean is not None and d.std is not None:
        tensors |= {"data.mean": d.mean, "data.std": d.std}
    words = {"format": FORMAT, "classes": d.classes, "shape": d.shape, "samples": run.feed.n}
    words |= {"config": dumps(run.config), "progress": vars(run.progress), "hooks": values}
    words |= {"data": run.digests, "exact": exact.facts(run)}
    tensorfile.save(path, tensors, words)


def load(run, path, inexact: bool = False):
    """Restore a run from a checkpoint.

    inexact: the run may go on where it can't be bit-identical. CheckpointError if the checkpoint doesn't fit,
    UsageError if its config differs, or what its bits depend on (exact.py), DataError if its data differ.
    """
    tensors, words = tensorfile.read(path)
    if words.get("format") != FORMAT:
        raise CheckpointError(f"{path}: another version wrote it; train again")
    try:
        elsewhere = exact.difference(words["exact"], exact.facts(run))
        config, hooks = words["config"], words["hooks"]
        progress = Progress(**{k: words["progress"][k] for k in vars(run.progress)})
        config = tomllib.loads(config)
        check_plain(config)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, UsageError) as e:
        raise CheckpointError(f"{path}: can't be resumed from ({e})") from None
    _check_same(config, tomllib.loads(dumps(run.config)), path)
    if not _possible(progress, run.per_epoch):
        raise CheckpointError(f"{path}: impossible progress, {progress}")
    _check_data(run, tensors, words, path)
    if elsewhere and not inexact:
        raise UsageError(f"{path}: {elsewhere}; {run.inexact_option} resumes it, but not bit-identically")
    here, _ = _split(run)
    tensorfile.check(here, tensors, f"{path}: doesn't match its config: ", unknown=True)
    if run.config.train.on_nonfinite != "ignore":
        tensorfile.check_finite({k: t for k, t in tensors.items() if k.startswith("net.")}, path)
    try:
        for hook in run.hooks:
            own = {k: tensors[f"{hook.name}.{k}"] for k, v in hook.state().items() if isinstance(v, Tensor)}
            hook.load(hooks.get(hook.name, {}) | own)
        _restore_generators(run, tensors, progress)
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError, OverflowError) as e:
        raise CheckpointError(f"{path}: the state of a hook or of random numbers is damaged ({e})") from None
    for name, t in run.learner.tensors().items():
        t.copy_(tensors[name])
    if hasattr(run.optimizer, "load"):  # it has a part of its state on each process
        prefix = "optimizer."
        run.optimizer.load({k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)})
    run.progress.epoch, run.progress.step = progress.epoch, progress.step


def _check_data(run, tensors: dict[str, Tensor], words: dict, path):
    """DataError names the first thing in which a run's data differ from those of a checkpoint."""
    d, digests = run.data, words.get("data")
    if not isinstance(digests, dict) or not all(isinstance(v, str) for v in digests.values()):
        raise CheckpointError(f"{path}: doesn't say what it was trained on")
    different = [] if words.get("classes") == [*d.classes] else ["classes"]
    for name, own in run.digests.items():
        theirs = digests.get(name, "")
        if theirs != own and (comparable(theirs, own) or not theirs):
            different.append(name)
    different += [name for name in digests if name not in run.digests]
    known = {} if d.mean is None or d.std is None else {"data.mean": d.mean, "data.std": d.std}
    if words.get("samples") != run.feed.n or any(not _equal(tensors.get(k), v) for k, v in known.items()):
        different.append("train samples")
    if different:
        where = f"{run.config.data.root}: not the data that {path} was trained on"
        raise DataError(f"{where}: other {' and '.join(dict.fromkeys(different))}")


def seed(seed: int, step: int, rank: int) -> int:
    """The seed of a process's own random numbers from a step on."""
    return ((seed * 1_000_003 + step) * 65_537 + rank + 1) % 2**63


def _generator_state(device: torch.device) -> Tensor:
    """(1, bytes)"""
    state = generator_state(device)
    assert state is not None
    return state[None]


def _generators(run):
    """(kind, device) of each generator that a step draws from."""
    return {"cpu": torch.device("cpu"), run.device.type: run.device}.items()


def _restore_generators(run, tensors: dict[str, Tensor], progress: Progress):
    """Restore each process's generators. With another number of processes they are seeded anew."""
    states = tensors["random.cpu"]
    if len(states) != run.world.size or states.dim() != 2:
        at = progress.epoch * 65_537 + progress.step
        torch.manual_seed(seed(run.config.seed, at, run.world.rank))
        return
    for kind, device in _generators(run):
        if f"random.{kind}" in tensors:
            own = tensors[f"random.{kind}"][run.world.rank].clone()  # it must begin at its storage's start
            generator_state(device, own)


def _possible(progress: Progress, per_epoch: list[int]) -> bool:
    epoch, step = progress.epoch, progress.step
    if type(epoch) is not int or type(step) is not int:
        return False
    return 0 <= epoch <= len(per_epoch) and 0 <= step <= [*per_epoch, 0][epoch]


def _equal(a: Tensor | None, b: Tensor) -> bool:
    return a is not None and a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b.cpu())


def _check_same(theirs: dict, ours: dict, path, where: str = ""):
    """UsageError at the first key that has another value in another config, unless the key is free."""
    for name in dict.fromkeys([*ours, *theirs]):
        key = where + name
        a, b = theirs.get(name), ours.get(name)
        if key in FREE or a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            _check_same(a, b, path, f"{key}.")
        else:
            raise UsageError(
                f"{key}: {path} was trained with {a!r}, now it is {b!r}; resume with the same config"
            )
