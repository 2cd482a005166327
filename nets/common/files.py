"""Files that are written whole or not at all."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """The path with ~ or ~user at its start expanded, as a shell does it."""
    return Path(os.path.expanduser(path))


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to, which replaces `path` at the end, and is removed on an error.

    The file's bytes and its name are on the disk then. An OSError names `path`. A device, a pipe or a name
    of an open file, as /dev/stdout, is written to directly: root could replace it by a file.
    """
    direct = path.exists() and (not path.is_file() or path.absolute().is_relative_to("/dev"))
    part = path if direct else path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        if not direct:
            _sync(part)
            os.replace(part, path)
            _sync(path.parent)
    except OSError as e:
        e.filename, e.filename2 = str(path), None
        raise
    finally:
        if not direct:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def _sync(path: Path):
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as e:
        if e.errno != errno.EINVAL:  # some filesystems can't sync folders
            raise
    finally:
        os.close(file)


def write_text(path: Path, text: str):
    """Write a text file, whole or not at all."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def link(path: Path, other: Path):
    """Make `other` a second name of the file at `path`, or a copy where the filesystem has no hard links.

    An older file called `other` is replaced.
    """
    with atomic_write(other) as part:
        try:
            os.link(path, part)
        except OSError:  # exFAT and some network filesystems; each has its own error number
            shutil.copyfile(path, part)
