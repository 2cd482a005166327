"""A run folder belongs to one process at a time."""

import contextlib
import fcntl
import os
from pathlib import Path

from nets.errors import UsageError


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
    """Is another process holding it?"""
    try:
        with open(Path(folder) / "lock", "r+", encoding="utf-8") as f:
            fcntl.lockf(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
