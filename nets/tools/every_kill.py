"""Every kill: a run's folder after each call that changes a file in it, resumed, killed and resumed again.

SIGKILL leaves the folder as the last call to the system left it. So a run is traced, and the folder is
copied after each call that changed it: each copy is what a kill at that moment leaves. Each different one is
resumed, traced in the same way, and must end as the undisturbed run.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from nets.common.errors import CheckpointError
from nets.report.run_figures import Figures
from nets.tools.survive import differences, state, tensors_and_words
from nets.training.config import Config
from nets.training.result import RESULT
from nets.training.run import Run

# a run of four steps, with a checkpoint after each
SETTINGS = ["train.epochs=2", "train.batch_size=640", "checkpoint.every_steps=1", "log.every_steps=1"]
SETTINGS += ["data.validation=0.1"]
SYSTEM = (sys.modules[os.replace.__self__.__name__], sys.modules["_io"])  # pyright: ignore
LOCK = "lock"  # the process that ends releases it


class Tracer:
    """Copies a folder to copies/0, copies/1, … after each call that changed it: calls[i] names the call."""

    def __init__(self, folder: Path, copies: Path):
        self.folder, self.copies = folder, copies
        self.calls: list[str] = []
        self.before = self.look()

    def look(self) -> list[tuple]:
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            found = [(e.name, e.stat()) for e in entries if e.name != LOCK]
            return sorted((name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in found)
        return []

    def __call__(self, frame, event: str, function):
        """For sys.setprofile. Calls of Python's own functions are left out: they change no file."""
        owner = getattr(function, "__self__", None)
        if event not in ("c_return", "c_exception"):
            return
        if not (any(owner is module for module in SYSTEM) or isinstance(owner, io.IOBase)):
            return
        now = self.look()
        if now != self.before:
            changed = " and ".join(sorted({entry[0] for entry in {*now} ^ {*self.before}}))
            self.before = now
            copy = self.copies / str(len(self.calls))
            shutil.copytree(self.folder, copy, ignore=shutil.ignore_patterns(LOCK))
            self.calls.append(f"{function.__name__} ({changed})")


def content(folder: Path) -> str:
    """A digest of all that a resumed run can see, without times and numbers of processes."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        name, raw = path.name, path.read_bytes()
        if name.endswith(".part"):
            name, raw = name.rsplit(".", 2)[0], b""
        elif name == "times.jsonl":
            raw = f"{len(raw.splitlines())} {raw[-1:]!r}".encode()
        elif name == RESULT:
            raw = repr({k: v for k, v in json.loads(raw).items() if "seconds" not in k}).encode()
        elif name.endswith(".safetensors"):
            with contextlib.suppress(CheckpointError):
                raw = b"".join(k.encode() + v for k, v in tensors_and_words(path).items())
        total.update(f"{name} {len(raw)} ".encode() + raw)
    return total.hexdigest()


def every_kill(
    conf: Config, where: torch.device, folder: Path, depth: int = 2
) -> Iterator[tuple[str, list[str]]]:
    """Yield (after which calls a run was killed, what differs in its state at the end) for each kind of kill.

    depth: 1 for every first kill, 2 for every second kill of the resumed runs too, and so on
    """
    counted, known = 0, set()

    def run(out: Path, what: str) -> list[tuple[str, Path]]:
        """Run to the end. The folders that kills on the way would leave, of those that are new."""
        nonlocal counted
        counted += 1
        copies = folder / f"killed {counted}"
        tracer = Tracer(out, copies)
        train = Run.from_config(conf, where, out, hooks=[Figures()])
        train.show_bar = False
        sys.setprofile(tracer)
        try:
            train.train(resume=True)
        finally:
            sys.setprofile(None)
        found = []
        for i, call in enumerate(tracer.calls):
            key = content(copies / str(i))
            if key not in known:
                known.add(key)
                found.append((f"{what}killed after call {i + 1}, {call}", copies / str(i)))
        return found

    if not depth:
        return
    level = run(folder / "alone", "")
    whole = state(folder / "alone")
    for _ in range(depth):
        after = []
        for what, out in level:
            after += run(out, f"{what}; then ")
            yield what, differences(whole, state(out))
        level = after
