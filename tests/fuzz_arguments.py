"""Fuzzes every argument of every command: python -m tests.fuzz_arguments [COUNT [COMMAND ...]].

Each argument gets COUNT (500) values: of other types, out of range, mutated, not UTF-8, paths of pipes and
devices. A command must accept its arguments, or end with one line and a documented exit code. What it does
with accepted arguments is not run here: a stub raises Reached in its place.
"""

import contextlib
import io
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from nets.commands import COMMANDS, load, main
from nets.common.device import select_device
from nets.data import datasets, tree
from nets.report import figure
from nets.training.run import Run
from tests.argument_values import value
from tests.data.trees import make_tree

CODES = {0, 2, 3, 4, 6}
SECONDS, HANGS = 5, 60  # of a case: of computing at most, and of waiting


class Reached(Exception):
    """The arguments are accepted."""


class Hang(BaseException):
    """A case doesn't end."""


def reached(*_, **__):
    """Stands for a command's work."""
    raise Reached


def _gradcheck(targets, named, *_):
    for target in targets:
        named(target, 0)
    raise Reached


def _enlarge(src, *_):
    tree.scan(src)
    raise Reached


def _several(name, *_):
    return SimpleNamespace(size=2, is_main=True, device=select_device(name))


def _hangs(*_):
    raise Hang


def _work(*_):
    return SimpleNamespace(name="net", weights=1.0)


PLAN = SimpleNamespace(work=_work, table=lambda *_: "", draw=reached)
STUBS = {  # command: what its module's names stand for
    "gradcheck": {"_check": _gradcheck, "_precision": _gradcheck},
    "bench": {"race": reached, "scaling": reached},
    "rates": {"table": reached},
    "same-curve": {"compare": reached},
    "survive": {"survive": reached},
    "soak": {"soak": reached},
    "enlarge": {"enlarge": _enlarge},
    "stream-bench": {"measure": reached, "subprocess": SimpleNamespace(run=reached)},
    "lecture": {"EXPERIMENTS": {"neuron": reached, "hill": reached}},
    "distributed-plan": {"figures": PLAN, "config": SimpleNamespace(load=_work)},
    "distributed-bench": {"join": _several, "watched": contextlib.nullcontext, "_report": reached},
}
BASE = {"eval": ["run"], "watch": ["run", "--once"], "enlarge": ["tree", "new"], "stream-bench": ["own.toml"]}


def prepare(folder: Path, patch: pytest.MonkeyPatch):
    """Files of every kind in a folder, which becomes the current one, and stubs for what takes long."""
    home = folder / "a/b/c/d"  # ../../x stays below the folder
    home.mkdir(parents=True)
    patch.chdir(home)
    patch.setenv("HOME", str(home))
    (home / "folder").mkdir()
    (home / "file").write_text("text")
    os.mkfifo("pipe")
    os.symlink("loop", "loop")
    os.symlink("nowhere", "broken")
    Image.new("L", (8, 8)).save(home / "image.png")
    make_tree(home / "tree")
    (home / "own.toml").write_text(
        '[data]\nsource = "folder"\nroot = "tree"\n'
        '[net]\nlayers = ["Flatten", { type = "Linear", out_features = 3 }]\n'
    )
    digits = datasets.digits(None)
    patch.setitem(datasets.LOADERS, "digits", lambda *_: digits)
    for name in ("top5", "curves"):
        patch.setattr(figure, name, lambda *_, **__: None)
    with contextlib.redirect_stdout(io.StringIO()):
        main(["train", "--set", "train.epochs=1", "--set", "name=run", "--out", ".", "--device", "cpu"])
    patch.setattr(Run, "train", reached)
    for command, stubs in STUBS.items():
        for name, stub in stubs.items():
            patch.setattr(load(command), name, stub)


def case(draw: random.Random, command: str, actions, action) -> list[str]:
    """The arguments of one case: the argument with a value, sometimes twice or with others."""
    argv = list(BASE.get(command, []))
    for a in [action, *(draw.choice(actions) for _ in range(draw.choice([0, 0, 0, 1, 2])))]:
        if not a.option_strings:
            argv += [value(draw, a) for _ in range(draw.choice([1, 1, 2]))]
            if a is action and command in BASE and draw.random() < 0.7:
                argv = [argv[-1], *argv[1 : len(BASE[command])]]
            continue
        option, given = draw.choice(a.option_strings), value(draw, a)
        if a.nargs == 0 and draw.random() < 0.7:
            argv.append(option)
        else:
            argv += [f"{option}={given}"] if draw.random() < 0.5 else [option, given]
    return argv


def fault(command: str, argv: list[str]) -> str:
    """What is wrong with a command's answer to its arguments, "" if nothing is."""
    out, err, begin = io.StringIO(), io.StringIO(), time.process_time()
    before = signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(HANGS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main([command, *argv])
        code = 0
    except Reached:
        code = 0
    except SystemExit as e:
        code = e.code or 0
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt):
            raise
        return f"{type(e).__name__}: {str(e)[:200]}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    seconds, said = time.process_time() - begin, err.getvalue()
    if code not in CODES:
        return f"exit code {code}: {said[:200]}"
    if code and (said.count("\n") != 1 or not said.startswith("error: ") or not said[:-1].isprintable()):
        return f"exit code {code}, not one line: {said[:300]!r}"
    return f"{seconds:.0f} s" if seconds > SECONDS else ""


def fuzz(command: str, count: int, seed: int = 0) -> tuple[int, list[str]]:
    """(cases, faults) of a command, each of whose arguments gets `count` values. Needs `prepare`."""
    actions = [a for a in load(command).parser()._actions if a.dest != "help"]
    faults = []
    for action in actions:
        draw = random.Random(f"{seed} {command} {action.dest}")
        for _ in range(count):
            argv = case(draw, command, actions, action)
            if problem := fault(command, argv):
                faults.append(
                    f"nets {command} {[a if len(a) < 80 else a[:80] + '…' for a in argv]}: {problem}"
                )
    return count * len(actions), faults


if __name__ == "__main__":
    count, commands = int([*sys.argv, "500"][1]), sys.argv[2:] or [*COMMANDS]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        prepare(Path(folder), patch)
        total = 0
        for command in commands:
            begin = time.perf_counter()
            cases, faults = fuzz(command, count)
            total += len(faults)
            seconds = time.perf_counter() - begin
            print(
                f"{command}: {cases:,} cases, {len(faults)} faults, {seconds:.0f} s",
                *faults[:20],
                sep="\n  ",
                flush=True,
            )
    sys.exit(total > 0)
