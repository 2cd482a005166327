"""Does a run that is killed go on as if nothing had been? nets survive [CONFIG]

A run is left alone. Then it is begun again and again, each time killed (SIGKILL) at another random
step or in the middle of a checkpoint's writing, and resumed. In the end weights, momentum,
statistics, random numbers, the log and the figures have to be the same to the last bit. So have those
of further runs that are left alone.
"""

import contextlib
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import torch
from tqdm import tqdm

from nets.commands import cli
from nets.common import device
from nets.common import tensorfile as checkpoint
from nets.common.errors import CheckpointError
from nets.training import config, trainer
from nets.training.state import LAST

SETTINGS = ["train.epochs=3", "checkpoint.every_steps=5", "log.every_steps=3"]  # short, with many saves


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
    tensors, words = checkpoint.read(out / LAST)
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


def main():
    parser = cli.parser(__doc__)
    parser.add_argument("config", nargs="?", default="configs/digits.toml", metavar="CONFIG")
    parser.add_argument("--kills", type=int, default=50, help="at random steps (default: %(default)s)")
    parser.add_argument(
        "--saves", type=int, default=20, help="while a checkpoint is written (default: %(default)s)"
    )
    parser.add_argument("--alone", type=int, default=4, help="further runs left alone (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=v", help="override a key")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    args = parser.parse_args()
    conf = config.load(args.config, SETTINGS + args.set)
    where, count = device.pick(args.device), args.kills + args.saves + args.alone
    with tempfile.TemporaryDirectory() as folder:
        kills = survive(conf, where, Path(folder), args.kills, args.saves, args.alone, args.seed)
        bad = []
        for what, other in tqdm(kills, total=count, unit="run", disable=None):
            if other:
                bad.append(what)
                tqdm.write(f"{what}: different: {', '.join(other)}")
    print(f"{count - len(bad)} of {count} the same to the last bit")
    if bad:
        raise CheckpointError(f"{len(bad)} runs went on differently")


if __name__ == "__main__":
    with cli.one_line_errors():
        main()
