"""Survive: kills runs and resumes them, and compares their results with an undisturbed run's.

One run trains undisturbed. More runs are killed (SIGKILL), each at another random step or while it
writes a checkpoint, and are resumed. Weights, momentum, statistics, random numbers, the log and the
figures must be bit-identical in the end. Further undisturbed runs must be bit-identical too.
"""

import contextlib
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from nets.common import tensorfile
from nets.common.errors import CheckpointError
from nets.report.run_figures import Figures
from nets.training import config
from nets.training.checkpoint import BEST, LAST
from nets.training.hooks import CheckpointHook, Hook
from nets.training.run import Run

# a short run with many checkpoints
SETTINGS = ["train.epochs=3", "checkpoint.every_steps=5", "log.every_steps=3", "data.validation=0.1"]


def _child(conf, where, out, resume, kill_at, pipe):
    """The child process: train, and kill itself at step kill_at unless that is None.

    Sends the step through the pipe when a save begins, and again when it ends.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # no progress bar
    save = CheckpointHook.save

    def reported_save(hook, run, *args):
        pipe.send(run.at())
        save(hook, run, *args)
        pipe.send(run.at())

    setattr(CheckpointHook, "save", reported_save)  # noqa: B010
    Run.from_config(conf, where, out, hooks=[Figures(), Killer(kill_at)]).train(resume=resume)


class Killer(Hook):
    """Kills the process before a step, unless that is None."""

    def __init__(self, step: int | None):
        self.step = step

    def before_step(self, run):
        if run.at() == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def _start(context, *args):
    """Start a child process: (process, the pipe to read from)."""
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(*args, there))
    process.start()
    there.close()
    return process, here


def _finish(process, pipe) -> list[tuple[float, int]]:
    """Wait for a process to end: (time, step) of each message that it sent."""
    messages = []
    with contextlib.suppress(EOFError):
        while True:
            step = pipe.recv()
            messages.append((time.perf_counter(), step))
    process.join()
    return messages


def state(out: Path) -> dict:
    """What must be the same in two runs: bytes by name. Times are left out."""
    found = tensors_and_words(out / LAST)
    if (out / BEST).exists():
        found |= {f"best.{name}": raw for name, raw in tensors_and_words(out / BEST).items()}
    result = json.loads((out / "result.json").read_text())
    result = {k: v for k, v in result.items() if "seconds" not in k}
    found["result"] = json.dumps(result).encode()
    return found | {n: (out / n).read_bytes() for n in ("metrics.jsonl", "curves.png")}


def tensors_and_words(path: Path) -> dict[str, bytes]:
    """A checkpoint's bytes by name, without times."""
    tensors, words = tensorfile.read(path)
    words["hooks"].pop("clock")
    words["hooks"]["log"]["mark"].pop("times")
    words.pop("config")  # resuming has compared it, except for keys that may differ
    found = {
        name: t.contiguous().flatten().view(torch.uint8).numpy().tobytes() for name, t in tensors.items()
    }
    return found | {"words": json.dumps(words).encode()}


def differences(a: dict, b: dict) -> list[str]:
    """The names whose bytes differ, or which only one state has."""
    return [name for name in {**a, **b} if a.get(name) != b.get(name)]


def survive(
    conf: config.Config,
    where: torch.device,
    folder: Path,
    kills: int,
    saves: int,
    alone: int = 0,
    seed: int = 0,
) -> Iterator[tuple[str, list[str]]]:
    """Yield (what was done to a run, what differs in its state) for each run after the first.

    kills  runs to kill at a random step
    saves  runs to kill while a checkpoint is written
    alone  further undisturbed runs
    seed   of the random steps and times
    """
    rng = random.Random(seed)
    os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker"  # it warns of a killed process's semaphores
    context = multiprocessing.get_context("forkserver")
    # these are slow to import
    context.set_forkserver_preload(
        ["nets.training.run", "nets.report.run_figures", "torch._dynamo", "sklearn.model_selection"]
    )

    def undisturbed(out: Path):
        return _finish(*_start(context, conf, where, out, False, None)), state(out)

    messages, first = undisturbed(folder / "alone")
    for i in range(alone):
        yield f"left alone, {i + 2}.", differences(first, undisturbed(folder / f"alone{i}")[1])
    begins, ends = messages[::2], messages[1::2]
    longest = max(end[0] - begin[0] for begin, end in zip(begins, ends))
    steps = ends[-1][1]
    for i in range(kills + saves):
        out = folder / str(i)
        if i < kills:
            step = rng.randrange(steps)
            what = f"killed at step {step}"
            process, pipe = _start(context, conf, where, out, False, step)
            _finish(process, pipe)
        else:
            save, wait = rng.randrange(len(begins)), rng.uniform(0, longest)
            process, what = _kill_in_save(context, conf, where, out, save, wait)
        if process.exitcode != -signal.SIGKILL:
            raise CheckpointError(f"{what}: the run ended before that, with exit code {process.exitcode}")
        _finish(*_start(context, conf, where, out, True, None))
        yield what, differences(first, state(out))


def _kill_in_save(context, conf, where, out: Path, save: int, wait: float):
    """Kill a run `wait` seconds after its save no. `save` began: (process, what was done)."""
    process, pipe = _start(context, conf, where, out, False, None)
    for _ in range(2 * save):  # the saves before it, begin and end
        pipe.recv()
    step = pipe.recv()
    time.sleep(wait)
    process.kill()
    ended = _finish(process, pipe)
    what = f"killed {1000 * wait:.1f} ms into the save at step {step}" + (", after it" if ended else "")
    return process, what
