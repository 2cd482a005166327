"""One rival in one process, so that memory, allocator and compiled code are its own."""

import multiprocessing
import os
import signal
import sys
import tempfile
from pathlib import Path

import torch

from nets.bench import forms, measure, profile
from nets.common.device import keep_freed_memory, set_current_device
from nets.common.errors import Problem, describe
from nets.training.cuda_graph import Captured

CACHE = None  # a folder for compiled code; None: each worker compiles from nothing, as a first run does


class Rival:
    """A form at work: everything that is asked of it between its start and its end."""

    def __init__(self, task: forms.Task, form: forms.Form):
        self.task, self.form, self.device = task, form, task.device
        self.loaded = measure.resident_peak()
        set_current_device(self.device)
        if form.keep and self.device.type == "cpu":
            keep_freed_memory()
        if form.compiled:
            measure.watch_compiler()

    def losses(self, steps: int) -> list[float]:
        """Build, and the first steps' losses. With dropout off, as each form draws in its own way."""
        drops = self._build(dropout=False)
        found = []
        begin = forms.now(self.device)
        for _ in range(steps):
            found.append(float(self.step(self.x, self.target)[0]))
            if len(found) == 1:
                self.first = forms.now(self.device) - begin
        if drops:
            torch._dynamo.reset()
            self._build(dropout=True)
        return found

    def _build(self, dropout: bool) -> bool:
        """Make the step anew; True if the net has layers that drop."""
        if self.form.compiled:
            measure.compiled_bytes()
        net, loss, self.x, self.target = forms.prepare(self.task)
        droppers = [layer for layer in net.walk() if getattr(layer, "p", 0)]
        if not dropout:
            for layer in droppers:
                layer.p, layer.scale = 0.0, 1.0
        side = forms.Manual if self.form.side == "manual" else forms.Autograd
        self.made = self.step = side(self.task, net, loss, self.form.compiled)
        self.net = self.made.net if self.form.side == "manual" else None
        self.labels = profile.labels(net)
        if self.form.captured:
            self.step = Captured(self.made, self.made.standing)
        return bool(droppers)

    def turn(self, steps: int) -> float:
        """Seconds a step, over some steps, after one to get warm."""
        self.step(self.x, self.target)
        begin = forms.now(self.device)
        for _ in range(steps):
            self.step(self.x, self.target)
        return (forms.now(self.device) - begin) / steps

    def facts(self) -> dict:
        """What one step does and takes."""
        stands = [*self.made.standing(), self.x, self.target]
        standing = sum(t.nbytes for t in {t.untyped_storage()._cdata: t for t in stands}.values())
        return {
            "parts": self.made.parts,
            "first_step_s": self.first,
            "standing_bytes": standing,
            "loaded_bytes": self.loaded,
            **self._memory(),
            **self._launches(),
            "threads": torch.get_num_threads(),
        }

    def _memory(self) -> dict:
        if self.device.type == "cuda":
            before = torch.cuda.memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self.turn(2)
            peak = torch.cuda.max_memory_allocated(self.device)
            return {"peak_bytes": peak - before, "resident_bytes": torch.cuda.memory_reserved(self.device)}
        resident = measure.resident_peak(lambda: self.turn(2))
        self.record = measure.recorded(self._once, self.device)
        return {"peak_bytes": measure.live_peak(self.record), "resident_bytes": resident}

    def _launches(self) -> dict:
        if self.form.way:
            self.record = measure.recorded(self._once, self.device)
            count = sum(map(len, measure.kernels(self.record, self.device).values()))
            return {"launches": count, "moved_bytes": self._compiled_bytes()}
        with measure.Launched() as seen:
            self._once()
        count = seen.operators
        if self.device.type == "cuda":
            record = measure.recorded(self._once, self.device)
            count = sum(map(len, measure.kernels(record, self.device).values()))
        return {"launches": count, "moved_bytes": seen.bytes}

    def _compiled_bytes(self) -> int | None:
        """By the compiler's count, and for the twin those of its update, which isn't compiled."""
        total = measure.compiled_bytes() if self.form.compiled else None
        if total is None or self.form.side == "manual":
            return total
        self.made.forward(self.x, self.target)[0].backward()
        with measure.Launched() as seen:
            self.made.update()
        return total + seen.bytes

    def _once(self):
        self.step(self.x, self.target)

    def profile(self, steps: int) -> dict:
        """Where the time goes: see profile.py."""
        if self.form.way:
            return profile.by_kernel(self._once, self.device, steps)
        by_layer = profile.manual if self.form.side == "manual" else profile.autograd
        return by_layer(self, steps)


class Worker:
    """A process that holds one Rival or Peak; `ask` calls one of its methods."""

    def __init__(self, cls, *args, name: str):
        self.name = name
        self.folder = tempfile.TemporaryDirectory(prefix="bench-")  # compiled code, and its stderr
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        folders = self.folder.name, CACHE or self.folder.name
        self.process = context.Process(target=_serve, args=(theirs, *folders, name, cls, args), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, what: str, *args):
        """The method's answer. A Problem there is raised here, and so is the worker's death."""
        try:
            self.pipe.send((what, args))
            answer = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(5)
            raise Problem(f"{self.name}: its process died ({self._last_words()})") from None
        if isinstance(answer, Problem):
            raise answer
        return answer

    def _last_words(self) -> str:
        lines = Path(self.folder.name, "stderr").read_text(errors="replace").split("\n")
        lines = [line for line in lines if line.strip()]
        return lines[-1] if lines else f"exit code {self.process.exitcode}"

    def close(self):
        self.pipe.close()
        self.process.join(5)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()
        self.folder.cleanup()


def _serve(pipe, folder: str, cache: str, name: str, cls, args):
    """A worker's life: make the object, answer until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
    sys.stderr.flush()
    log = os.open(os.path.join(folder, "stderr"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 2)  # what compiler and profiler have to say is read if it dies
    made = None
    while True:
        try:
            what, asked = pipe.recv()
        except EOFError:
            return
        try:
            made = made or cls(*args)
            pipe.send(getattr(made, what)(*asked))
        except Problem as e:
            pipe.send(e)
        except Exception as e:
            pipe.send(Problem(f"{name}: {describe(e)}"))
