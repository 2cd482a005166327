"""Which device and which versions, how much memory, and how a CPU keeps it."""

import contextlib
import ctypes
import os
import resource
import sys
from pathlib import Path

import torch

from nets.common.errors import UsageError

# glibc's mallopt parameters, from malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def pick(name: str) -> torch.device:
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`. UsageError where it can't be."""
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


def settle(device: torch.device):
    """Make a GPU the one that kernels and graphs go to where they name none."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def keep_memory():
    """Let the process keep the memory that it frees, and use it again.

    By default the C library hands every large tensor back to the kernel when it is freed, and
    a train step pays for having the same pages mapped and zeroed anew each time. Linux's glibc
    only; elsewhere, and on CUDA, whose allocator does this by itself, nothing happens.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def capacity() -> int:
    """Bytes of memory that the machine has, or that its container admits."""
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
        most = min(most, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return most


def memory() -> float:
    """The process's resident memory in MB; the most that it has been, where only that is known."""
    try:
        with open("/proc/self/statm") as f:
            return round(int(f.read().split()[1]) * resource.getpagesize() / 1e6, 1)
    except OSError:
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, 1)


def generator_state(where: torch.device, state=None):
    """The state of a device's random numbers; set it where a state is given."""
    of = torch.cuda if where.type == "cuda" else torch
    args = (where,) if where.type == "cuda" else ()
    return of.get_rng_state(*args) if state is None else of.set_rng_state(state, *args)


def called(device: torch.device) -> str:
    """A device's name, for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def versions() -> dict:
    import platform

    import torchvision

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
