"""A run that is killed and resumed must end bit-identical to a run that is left alone.

A run is left alone. Then it is started many times, killed (SIGKILL) each time at a random step or while
it writes a checkpoint, and resumed. At the end weights, momentum, statistics, random numbers, the log
and the figures must be the same to the last bit. The same holds for more runs that are left alone.
"""

import contextlib
import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import torch

from nets.common import tensorfile
from nets.common.errors import CheckpointError
from nets.training import trainer
from nets.training.state import LAST

SETTINGS = ["train.epochs=3", "save.steps=5", "log.every=3"]  # short, with many saves


def _child(conf, where, out, resume, kill_at, pipe):
    """One process: train, and die at step kill_at if there is one; tell when a save begins and ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # no bar
    run = trainer.Run(conf, where, out)
    learn, save = run.learn, run._save

    def learn_or_die(*args):
        if run._at() == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return learn(*args)

    def told_save(*args):
        pipe.send(run._at())
        save(*args)
        pipe.send(run._at())

    run.learn, run._save = learn_or_die, told_save
    run.train(resume=resume)


def _start(context, *args):
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(*args, there))
    process.start()
    there.close()
    return process, here


def _finish(process, pipe) -> list[tuple[float, int]]:
    """Wait for a process: when it told something, and what."""
    told = []
    with contextlib.suppress(EOFError):
        while True:
            step = pipe.recv()
            told.append((time.perf_counter(), step))
    process.join()
    return told


def state(out: Path) -> dict:
    """All that has to be the same: bytes by name. Times are left out."""
    tensors, words = tensorfile.read(out / LAST)
    words["progress"].pop("seconds")
    words["log"].pop("times")
    words.pop("config")  # resuming has compared it, but for what doesn't matter
    found = {
        name: t.contiguous().flatten().view(torch.uint8).numpy().tobytes() for name, t in tensors.items()
    }
    result = json.loads((out / "result.json").read_text())
    result = {k: v for k, v in result.items() if "seconds" not in k}
    found |= {"words": json.dumps(words).encode(), "result": json.dumps(result).encode()}
    return found | {n: (out / n).read_bytes() for n in ("metrics.jsonl", "curves.png")}


def differences(a: dict, b: dict) -> list[str]:
    return [name for name in {**a, **b} if a.get(name) != b.get(name)]


def survive(conf, where, folder: Path, kills: int, saves: int, alone: int = 0, seed: int = 0):
    """Yield (what was done to a run, what came out different) for each kill, and each run left alone."""
    draw = random.Random(seed)
    os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker"  # which minds that the dead left semaphores
    context = multiprocessing.get_context("forkserver")
    # slow to import
    context.set_forkserver_preload(["nets.training.trainer", "torch._dynamo", "sklearn.model_selection"])

    def whole(out):
        told = _finish(*_start(context, conf, where, out, False, None))
        return told, state(out)

    told, first = whole(folder / "alone")
    for i in range(alone):
        yield f"left alone, {i + 2}.", differences(first, whole(folder / f"alone{i}")[1])
    begins, ends = told[::2], told[1::2]
    longest = max(b[0] - a[0] for a, b in zip(begins, ends))
    steps = ends[-1][1]
    for i in range(kills + saves):
        out = folder / str(i)
        if i < kills:
            at = draw.randrange(steps)
            what = f"killed at step {at}"
            process, pipe = _start(context, conf, where, out, False, at)
            _finish(process, pipe)
        else:
            which, wait = draw.randrange(len(begins)), draw.uniform(0, longest)
            process, pipe = _start(context, conf, where, out, False, None)
            for _ in range(2 * which + 1):
                at = pipe.recv()
            time.sleep(wait)
            process.kill()
            left = _finish(process, pipe)
            what = f"killed {1000 * wait:.1f} ms into the save at step {at}" + (", after it" if left else "")
        if process.exitcode != -signal.SIGKILL:
            raise CheckpointError(f"the run to be {what} ended by itself, with {process.exitcode}")
        _finish(*_start(context, conf, where, out, True, None))
        yield what, differences(first, state(out))
