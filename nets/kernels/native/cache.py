"""A compiled library in the user's cache: private to the user, and checked before it is loaded.

A library runs as the user who loads it. So the folder and the file must belong to this user, only this user
may write to them, and links are not followed. Both are used by their open descriptors: what is loaded is
what was checked. A file ends with the hash of what comes before it, so a file that was cut short, or isn't
one of these libraries, is found before it is loaded.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

FOLDER = "handwritten-backprop"
DIGEST = hashlib.sha256().digest_size
# Not on every system. NONBLOCK: a named pipe doesn't wait for a writer.
OPEN = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def find(name: str) -> Path | None:
    """A path to load the library called `name` by, or None if there is none. OSError if it isn't sound.

    The path is that of an open descriptor where the system has such paths. The descriptor stays open,
    because the loader takes a path that it has seen for the same library.
    """
    with _folder() as (path, folder):
        path /= name
        try:
            fd = os.open(name, OPEN, dir_fd=folder)
        except FileNotFoundError:
            return None
        try:
            _check(path, fd, stat.S_ISREG, "a file")
            with open(fd, "rb", closefd=False) as file:
                content = file.read()
            if _digest(content[:-DIGEST]) != content[-DIGEST:]:
                raise OSError(f"{path} is damaged")
        except OSError:
            os.close(fd)
            raise
    opened = Path(f"/proc/self/fd/{fd}")
    return opened if opened.exists() else path


def put(name: str, library: bytes):
    """Keep a library, whole or not at all: it is on the disk before it has its name. OSError on failure."""
    part = f".{name}.{os.getpid()}"
    with _folder() as (_, folder):
        try:
            with contextlib.suppress(FileNotFoundError):  # of a process that was killed, with the same number
                os.unlink(part, dir_fd=folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with open(os.open(part, flags, 0o700, dir_fd=folder), "wb") as file:
                file.write(library + _digest(library))
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, name, src_dir_fd=folder, dst_dir_fd=folder)
            with contextlib.suppress(OSError):  # some filesystems can't sync folders
                os.fsync(folder)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(part, dir_fd=folder)


@contextlib.contextmanager
def _folder() -> Iterator[tuple[Path, int]]:
    """The cache folder: its path, and an open descriptor. OSError if it can't be private to the user."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        path = (Path(base) if base else Path.home() / ".cache") / FOLDER
    except RuntimeError as e:  # neither HOME nor an entry in passwd
        raise OSError(f"no cache folder: {e}") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    fd = os.open(path, OPEN)
    try:
        with contextlib.suppress(OSError):
            os.fchmod(fd, 0o700)
        _check(path, fd, stat.S_ISDIR, "a folder")
        yield path, fd
    finally:
        os.close(fd)


def _check(path: Path, fd: int, is_kind, kind: str):
    """OSError unless it is of this kind and belongs to this user, and only this user may write to it."""
    found = os.fstat(fd)
    if not is_kind(found.st_mode):
        raise OSError(f"{path} is not {kind}")
    if found.st_uid != os.geteuid():
        raise OSError(f"{path} belongs to another user")
    if found.st_mode & 0o022:
        raise OSError(f"{path} may be written to by other users")


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
