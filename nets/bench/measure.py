"""Measures one step: the operators that it launches, the bytes that they move, its memory."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ALLOCATIONS = ("empty", "new_empty", "resize")  # operators whose names begin so compute nothing
OVERWRITTEN = ("copy_", "fill_", "zero_")  # these write to their first argument without reading it


class OperatorCounter(TorchDispatchMode):
    """Counts the operators that run inside it, and the bytes that they read and write.

    Views and allocations count nothing. An operator counts as reading its arguments and writing
    its results once: a kernel's second pass, or its copy in another layout, isn't seen.
    """

    def __init__(self):
        super().__init__()
        self.operators = self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not moves_nothing(func._schema.name.partition("::")[2]):
            read, written = _moved(func, args, kwargs or {}, out)
            if written:
                self.operators += 1
                self.bytes += sum(map(_bytes, read + written))
        return out


def _moved(func, args, kwargs, out) -> tuple[list[Tensor], list[Tensor]]:
    """(tensors read, tensors written) by an operator; nothing written where it only made a view."""
    schema = func._schema
    name = schema.name.partition("::")[2]
    given = dict(zip((a.name for a in schema.arguments), args)) | kwargs
    read, written = [], []
    for argument in schema.arguments:
        tensors = [t for t in tree_leaves(given.get(argument.name)) if isinstance(t, Tensor)]
        changed = argument.alias_info is not None and argument.alias_info.is_write
        if changed and argument.name != "grads":  # only a gradient scaler changes those
            written += tensors
        if not (changed and (argument.kwarg_only or name in OVERWRITTEN)):
            read += tensors
    inputs = {t.untyped_storage()._cdata for t in read + written}
    results = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
    return read, written + [t for t in results if t.untyped_storage()._cdata not in inputs]


def _bytes(t: Tensor) -> int:
    """A tensor's bytes. Those of an expanded tensor count once."""
    return min(t.nbytes, t.untyped_storage().nbytes())


def moves_nothing(name: str) -> bool:
    """Is this operator a view or an allocation?"""
    if name.startswith(ALLOCATIONS) or name in ("detach", "reshape"):
        return True
    packet = getattr(torch.ops.aten, name, None)
    return packet is not None and all(getattr(packet, o).is_view for o in packet.overloads())


def profile_step(step: Callable, device: torch.device):
    """Run one step under PyTorch's profiler, and return the profile."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities, profile_memory=True) as record:
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return record


def peak_tensor_bytes(record) -> int:
    """The peak of the CPU tensors' bytes in a profile, above those that existed before."""
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def kernel_times(record, device: torch.device) -> dict[str, list[float]]:
    """name -> milliseconds of each launch: fused kernels, and operators outside of them."""
    found: dict[str, list[float]] = {}
    for event in record.events():
        if device.type == "cuda":
            if event.device_type.name == "CUDA" and not event.is_user_annotation:
                found.setdefault(event.name, []).append(event.self_device_time_total / 1e3)
        elif _is_launch(event.name) and not any(_is_launch(a.name) for a in _ancestors(event)):
            found.setdefault(event.name, []).append(event.cpu_time_total / 1e3)
    return found


def _is_launch(name: str) -> bool:
    space, _, operator = name.rpartition("::")
    return "cpp_fused" in name or (space in ("aten", "mkldnn") and not moves_nothing(operator))


def _ancestors(event) -> Iterator:
    while event := event.cpu_parent:
        yield event


def instrument_compiler():
    """Make torch.compile name its kernels in profiles and count their bytes. Call it before compiling."""
    from torch._inductor import compile_fx, config

    config.cpp.enable_kernel_profile = True
    log = getattr(compile_fx, "inductor_metrics_log", None)
    if log is not None:  # the compiler counts bytes only if this log is on
        log.setLevel(logging.INFO)
        log.propagate = False
        log.addHandler(logging.NullHandler())


def compiled_bytes() -> int | None:
    """The compiler's count of bytes read and written by the kernels compiled since the last call."""
    from torch._inductor import metrics

    total = getattr(metrics, "num_bytes_accessed", 0)
    metrics.reset()
    return total or None


def peak_resident_bytes(step: Callable[[], object] = lambda: None) -> int:
    """The process's peak of resident memory during a step, libraries included."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: resets the high-water mark
        step()
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource  # elsewhere: the peak since the process began

        step()
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size if sys.platform == "darwin" else size * 1024
