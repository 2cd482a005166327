"""The kernels in C++: compiled by the machine's compiler at first use and kept in the user's cache."""

import ctypes
import functools
import hashlib
import os
import platform
import subprocess
import tempfile
from pathlib import Path

SOURCES = ("conv.cpp", "pointwise.cpp")
HEADERS = ("common.h", "amx.h", "winograd.h")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-fopenmp")


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None if they can't be compiled or loaded. `reason` then holds the error."""
    here = Path(__file__).parent
    compiler = os.environ.get("CXX", "c++")
    try:
        version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
        code = b"".join((here / name).read_bytes() for name in (*HEADERS, *SOURCES))
        key = hashlib.sha256(b"\0".join([code, version, repr(FLAGS).encode(), _processor()])).hexdigest()
        path = _cache() / f"kernels-{key[:16]}.so"
        if not path.exists():
            part = path.with_name(f".{path.name}.{os.getpid()}")
            command = [compiler, *FLAGS, "-o", str(part), *(str(here / name) for name in SOURCES)]
            subprocess.run(command, capture_output=True, check=True)
            os.replace(part, path)  # atomic: another process may compile the same
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.CalledProcessError) as e:
        reason.append(str(e))
        return None


reason: list[str] = []  # the errors that left the kernels unavailable


def _processor() -> bytes:
    """The processor's features, which the compiled code depends on. Different machines may share a cache."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "\n".join(sorted({s for s in lines if s.startswith(("flags", "Features"))})).encode()
    except OSError:
        return (platform.machine() + platform.processor()).encode()


def _cache() -> Path:
    """The user's cache folder, or a temporary one of this process if that isn't writable."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "handwritten-backprop"
    try:
        path.mkdir(parents=True, exist_ok=True)
        if os.access(path, os.W_OK):
            return path
    except OSError:
        pass
    return Path(_temporary_folder().name)


@functools.cache
def _temporary_folder():
    return tempfile.TemporaryDirectory(prefix="handwritten-backprop-")
