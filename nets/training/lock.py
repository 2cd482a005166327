"""A run folder belongs to one process at a time."""

import contextlib
import fcntl
import os
import struct
from pathlib import Path

from nets.common.errors import UsageError


@contextlib.contextmanager
def hold(folder: Path):
    """Hold a folder's lock. UsageError where another process does.

    The kernel drops the lock with the process that took it, however that ends, and processes that
    it forks don't inherit it (POSIX record locks do just this).
    """
    path = Path(folder) / "lock"
    with open(path, "a+", encoding="utf-8") as f:
        try:
            fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            f.seek(0)
            raise UsageError(f"{folder}: in use by process {f.read().strip() or '?'}") from None
        f.truncate(0)
        f.write(f"{os.getpid()}\n")
        f.flush()
        yield


def held(folder: Path) -> bool:
    """Is another process holding it? Only asks: nobody is kept from taking it meanwhile.

    Not for the process that may hold it itself: closing the file would drop its lock.
    """
    asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)  # Linux's struct flock
    try:
        with open(Path(folder) / "lock", "rb") as f:
            answer = fcntl.fcntl(f, fcntl.F_GETLK, asked)
    except FileNotFoundError:
        return False
    return struct.unpack("hhqqi4x", answer)[0] != fcntl.F_UNLCK
