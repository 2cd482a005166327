"""One form in one process. Memory, allocator and compiled code are the form's own."""

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


class Runner:
    """Builds and runs one form's step. `losses` comes first: it builds the step."""

    trainer: forms.Manual | forms.Autograd

    def __init__(self, task: forms.Task, form: forms.Form):
        self.task, self.form, self.device = task, form, task.device
        self.loaded = measure.peak_resident_bytes()
        set_current_device(self.device)
        if form.keep and self.device.type == "cpu":
            keep_freed_memory()
        if form.compiled:
            measure.instrument_compiler()

    def losses(self, steps: int) -> list[float]:
        """Build the step; the first steps' losses, with dropout off.

        Dropout is off because the forms draw random numbers in different orders.
        """
        drops = self._build(dropout=False)
        found = []
        begin = forms.now(self.device)
        for _ in range(steps):
            found.append(float(self.step(self.x, self.target)[0]))
            if len(found) == 1:
                self.first_step_s = forms.now(self.device) - begin
        if drops:
            torch._dynamo.reset()
            self._build(dropout=True)
        return found

    def _build(self, dropout: bool) -> bool:
        """Make the step again; True if the net has active dropout layers."""
        if self.form.compiled:
            measure.compiled_bytes()
        net, loss, self.x, self.target = forms.prepare(self.task)
        drops = bool(forms.dropout_layers(net))
        if not dropout:
            forms.turn_off_dropout(net)
        side = forms.Manual if self.form.side == "manual" else forms.Autograd
        self.trainer = self.step = side(self.task, net, loss, self.form.compiled)
        self.net = self.trainer.net if isinstance(self.trainer, forms.Manual) else None
        self.labels = profile.labels(net)
        if self.form.captured:
            self.step = Captured(self.trainer, self.trainer.persistent_tensors)
        return drops

    def turn(self, steps: int) -> float:
        """Seconds per step: the mean over some steps, after one step to warm up."""
        self.step(self.x, self.target)
        begin = forms.now(self.device)
        for _ in range(steps):
            self.step(self.x, self.target)
        return (forms.now(self.device) - begin) / steps

    def facts(self) -> dict:
        """The measures of one step: memory, launches, bytes moved."""
        tensors = [*self.trainer.persistent_tensors(), self.x, self.target]
        persistent = sum(t.nbytes for t in {t.untyped_storage()._cdata: t for t in tensors}.values())
        return {
            "parts": self.trainer.parts,
            "first_step_s": self.first_step_s,
            "persistent_bytes": persistent,
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
        resident = measure.peak_resident_bytes(lambda: self.turn(2))
        record = measure.profile_step(self._once, self.device)
        return {"peak_bytes": measure.peak_tensor_bytes(record), "resident_bytes": resident}

    def _launches(self) -> dict:
        if self.form.mode:
            return {"launches": self._kernel_count(), "moved_bytes": self._compiled_bytes()}
        with measure.OperatorCounter() as counter:
            self._once()
        launches = self._kernel_count() if self.device.type == "cuda" else counter.operators
        return {"launches": launches, "moved_bytes": counter.bytes}

    def _kernel_count(self) -> int:
        record = measure.profile_step(self._once, self.device)
        return sum(map(len, measure.kernel_times(record, self.device).values()))

    def _compiled_bytes(self) -> int | None:
        """The compiler's count. For autograd, the bytes of its update, which isn't compiled, are added."""
        total = measure.compiled_bytes() if self.form.compiled else None
        if total is None or isinstance(self.trainer, forms.Manual):
            return total
        self.trainer.forward(self.x, self.target)[0].backward()
        with measure.OperatorCounter() as counter:
            self.trainer.update()
        return total + counter.bytes

    def _once(self):
        self.step(self.x, self.target)

    def profile(self, steps: int) -> dict:
        """The time by layer or by kernel, see profile.py."""
        if self.form.mode:
            return profile.by_kernel(self._once, self.device, steps)
        by_layer = profile.manual if self.form.side == "manual" else profile.autograd
        return by_layer(self, steps)


class Worker:
    """A process that holds one object of class `cls`; `call` calls one of its methods."""

    def __init__(self, cls, *args, name: str):
        self.name = name
        self.folder = tempfile.TemporaryDirectory(prefix="bench-")  # compiled code, and its stderr
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        folders = self.folder.name, CACHE or self.folder.name
        self.process = context.Process(target=_serve, args=(theirs, *folders, name, cls, args), daemon=True)
        self.process.start()
        theirs.close()

    def call(self, method: str, *args):
        """The method's result. A Problem in the process is raised here; so is one if the process dies."""
        try:
            self.pipe.send((method, args))
            result = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(5)
            raise Problem(f"{self.name}: its process died ({self._last_words()})") from None
        if isinstance(result, Problem):
            raise result
        return result

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
    """A worker's process: make the object at the first call, and serve calls until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
    sys.stderr.flush()
    log = os.open(os.path.join(folder, "stderr"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 2)  # messages of compiler and profiler; the last line is reported if the process dies
    made = None
    while True:
        try:
            method, call_args = pipe.recv()
        except EOFError:
            return
        try:
            made = made or cls(*args)
            pipe.send(getattr(made, method)(*call_args))
        except Problem as e:
            pipe.send(e)
        except Exception as e:
            pipe.send(Problem(f"{name}: {describe(e)}"))
