"""The lock of a run folder: one process at a time uses it."""

import contextlib
import fcntl
import os
import struct
from pathlib import Path

from nets.common.errors import UsageError


@contextlib.contextmanager
def locked(folder: Path):
    """Hold a folder's lock. UsageError if another process holds it.

    The kernel releases the lock when the process ends in any way, and forked processes don't inherit it:
    it is a POSIX record lock.
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
    """Does another process hold the lock? Doesn't take it.

    Not for the process that holds it itself: closing the file would release its lock.
    """
    query = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)  # Linux's struct flock
    try:
        with open(Path(folder) / "lock", "rb") as f:
            answer = fcntl.fcntl(f, fcntl.F_GETLK, query)
    except FileNotFoundError:
        return False
    return struct.unpack("hhqqi4x", answer)[0] != fcntl.F_UNLCK
