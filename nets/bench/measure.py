"""What a step did: the operators that it launched, the bytes that they moved, the memory it took."""

import logging
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ALLOCATIONS = ("empty", "new_empty", "resize")  # an operator so called computes nothing
OVERWRITTEN = ("copy_", "fill_", "zero_")  # they write to their first argument without reading it


class Launched(TorchDispatchMode):
    """Counts the operators below, and the bytes that they read and write; views cost nothing.

    An operator reads its arguments and writes its results once: what a kernel does besides, such
    as a second pass or a copy in another layout, isn't seen.
    """

    def __init__(self):
        super().__init__()
        self.operators = self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not free(func._schema.name.partition("::")[2]):
            read, written = _moved(func, args, kwargs or {}, out)
            if written:
                self.operators += 1
                self.bytes += sum(map(_bytes, read + written))
        return out


def _moved(func, args, kwargs, out) -> tuple[list[Tensor], list[Tensor]]:
    """What an operator read, and what it wrote: nothing where it only gave another view."""
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
    """Of an expanded tensor, those that there are."""
    return min(t.nbytes, t.untyped_storage().nbytes())


def free(name: str) -> bool:
    """Is this operator a view or an allocation, which moves nothing?"""
    if name.startswith(ALLOCATIONS) or name in ("detach", "reshape"):
        return True
    packet = getattr(torch.ops.aten, name, None)
    return packet is not None and all(getattr(packet, o).is_view for o in packet.overloads())


def recorded(step, device: torch.device):
    """One step under PyTorch's profiler."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities, profile_memory=True) as record:
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return record


def live_peak(record) -> int:
    """The most bytes of tensors on the CPU that lived at once, above those that were there before."""
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def kernels(record, device: torch.device) -> dict[str, list[float]]:
    """name -> milliseconds of each launch: fused kernels, and operators that are called as they are."""
    found = {}
    for event in record.events():
        if device.type == "cuda":
            if event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation:
                found.setdefault(event.name, []).append(event.self_device_time_total / 1e3)
        elif _launched(event.name) and not any(_launched(a.name) for a in _ancestors(event)):
            found.setdefault(event.name, []).append(event.cpu_time_total / 1e3)
    return found


def _launched(name: str) -> bool:
    space, _, operator = name.rpartition("::")
    return "cpp_fused" in name or (space in ("aten", "mkldnn") and not free(operator))


def _ancestors(event):
    while event := event.cpu_parent:
        yield event


def watch_compiler():
    """Have torch.compile name its kernels to the profiler, and count their bytes. Before it is used."""
    from torch._inductor import compile_fx, config

    config.cpp.enable_kernel_profile = True
    log = getattr(compile_fx, "inductor_metrics_log", None)
    if log is not None:  # the bytes are only counted for this log
        log.setLevel(logging.INFO)
        log.propagate = False
        log.addHandler(logging.NullHandler())


def compiled_bytes() -> int | None:
    """Bytes read and written by the kernels compiled since the last call, by the compiler's count."""
    from torch._inductor import metrics

    total = getattr(metrics, "num_bytes_accessed", 0)
    metrics.reset()
    return total or None


def resident_peak(step=lambda: None) -> int:
    """The most memory that the process had while stepping, everything in it included, libraries too."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark starts anew
        step()
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource  # elsewhere: since the process began

        step()
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size if sys.platform == "darwin" else size * 1024
