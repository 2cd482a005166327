"""Devices: selection, names, memory, random states; and the versions of what is installed."""

import contextlib
import ctypes
import importlib.metadata
import os
import platform
import resource
import sys
from pathlib import Path

import torch

from nets.common.errors import UsageError

# glibc's mallopt parameters, from malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def select_device(name: str) -> torch.device:
    """The device of `auto` (CUDA if available), `cpu`, `cuda` or `cuda:N`. UsageError if it isn't there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, colon, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not number.isdecimal())):
        raise UsageError(f'--device {name}: expected "auto", "cpu", "cuda" or "cuda:N"')
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            raise UsageError(f"--device {name}: this machine has {count or 'no'} CUDA device(s)")
    return torch.device(kind, int(number)) if number else torch.device(kind)


def set_current_device(device: torch.device):
    """Make a GPU the default for kernels and graphs. Does nothing for a CPU or a GPU without a number."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def keep_freed_memory():
    """Make the C library keep freed memory for the process's next allocations.

    By default it returns every large freed block to the kernel, and each train step pays again for
    mapping and zeroing the same pages. Has an effect only with Linux's glibc. CUDA's allocator keeps
    its memory in any case.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def memory_capacity() -> int:
    """Bytes of the machine's memory, or of its container's limit if that is less."""
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # no such file, or the text "max"
        most = min(most, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return most


def resident_memory_mb() -> float:
    """The process's resident memory in MB; its peak on systems without /proc."""
    try:
        with open("/proc/self/statm") as f:
            return round(int(f.read().split()[1]) * resource.getpagesize() / 1e6, 1)
    except OSError:
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, 1)


def generator_state(where: torch.device, state=None):
    """The state of a device's random number generator. Sets it instead if a state is given."""
    of = torch.cuda if where.type == "cuda" else torch
    args = (where,) if where.type == "cuda" else ()
    return of.get_rng_state(*args) if state is None else of.set_rng_state(state, *args)


def device_name(device: torch.device) -> str:
    """The GPU's product name, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def versions() -> dict[str, str | None]:
    """The versions of Python, torch and torchvision (None if it isn't installed)."""
    try:
        torchvision = importlib.metadata.version("torchvision")  # importing it takes a second
    except importlib.metadata.PackageNotFoundError:
        torchvision = None
    return {"python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision}
