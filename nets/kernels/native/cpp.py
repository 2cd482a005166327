"""The kernels in C++: compiled by the machine's compiler at first use and kept in the user's cache."""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from nets.kernels.native import cache

HERE = Path(__file__).parent
SOURCES = ("conv.cpp", "pointwise.cpp")
HEADERS = ("common.h", "amx.h", "winograd.h")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-fopenmp")
FUNCTIONS = (
    *("convolve", "convolve_pool", "unpool_convolve", "weight_gradient", "unpool_weight_gradient"),
    *("act_forward", "act_backward", "norm_act_backward", "moments"),
)
SUFFIXES = ("f32", "bf16")

build: list[str] = []  # the name of the compiled code: of the sources, the compiler and the processor
reason: list[str] = []  # the errors that left the kernels unavailable


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None if they can't be compiled or loaded. `reason` then holds the error."""
    try:
        return _library()
    except (OSError, ValueError) as e:
        reason.append(" ".join(str(e).split()))
        return None


def _library() -> ctypes.CDLL:
    """The kernels from the cache. Where they can't be had there, they are compiled, and kept if possible."""
    compiler, trouble = _compiler(), ""
    code = b"".join((HERE / name).read_bytes() for name in (*HEADERS, *SOURCES))
    version = _run([*compiler, "--version"])
    key = hashlib.sha256(
        b"\0".join([code, version, repr((FLAGS, compiler)).encode(), _processor()])
    ).hexdigest()
    name = f"kernels-{key[:16]}.so"
    build[:] = [Path(name).stem]
    try:
        if path := cache.find(name):
            return _load(path)
    except OSError as e:
        trouble = str(e)
    with tempfile.TemporaryDirectory(prefix="handwritten-backprop-") as folder:
        path = Path(folder) / name
        _run([*compiler, *FLAGS, "-o", str(path), *(str(HERE / source) for source in SOURCES)])
        library = _load(path)
        try:
            cache.put(name, path.read_bytes())
            if trouble:
                _note(f"{trouble}: the kernels were compiled anew")
        except OSError as e:
            _note(f"{trouble or e}: the kernels were compiled for this run only")
    return library


def _load(path: Path) -> ctypes.CDLL:
    """The library, with its functions declared. OSError if it can't be loaded or lacks one of them."""
    library = ctypes.CDLL(str(path))
    try:
        for name in FUNCTIONS:
            for suffix in SUFFIXES:
                getattr(library, f"{name}_{suffix}").restype = ctypes.c_long
    except AttributeError as e:
        raise OSError(str(e)) from None
    return library


def _compiler() -> list[str]:
    """The command in CXX, which a shell could split: `ccache g++`. c++ by default."""
    try:
        return shlex.split(os.environ.get("CXX", "")) or ["c++"]
    except ValueError as e:
        raise OSError(f"CXX: {e}") from None


def _run(command: list[str]) -> bytes:
    """What a command prints. OSError with the first line of its errors if it fails."""
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()
        error = next((line for line in lines if "error" in line), "".join(lines[:1]))
        raise OSError(f"{command[0]} ended with {done.returncode}" + (f": {error}" if error else ""))
    return done.stdout


def _note(text: str):
    print(f"note: {text}", file=sys.stderr)


def _processor() -> bytes:
    """The processor's features, which the compiled code depends on. Different machines may share a cache."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "\n".join(sorted({s for s in lines if s.startswith(("flags", "Features"))})).encode()
    except OSError:
        return (platform.machine() + platform.processor()).encode()
