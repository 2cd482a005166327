"""Whole files or none: a write that fails at any call to the disk leaves the old file and no other."""

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nets.commands import cli
from nets.common import files, tensorfile
from nets.common.files import write_text
from nets.common.tensorfile import read, save
from tests.common.test_tensorfile import same, tensors


class Disk:
    """Stands in for `os` and `open` in files.py and tensorfile.py: counts disk calls, and fails one."""

    O_RDONLY, close, getpid = os.O_RDONLY, os.close, os.getpid  # close(2) of what was only read loses nothing

    def __init__(self, monkeypatch, fail_at=None, number=errno.ENOSPC):
        self.calls, self.fail_at, self.number = [], fail_at, number
        monkeypatch.setattr(files, "os", self)
        monkeypatch.setattr(tensorfile, "open", self.open_file, raising=False)

    def call(self, name, function, *args):
        self.calls.append(name)
        if len(self.calls) - 1 == self.fail_at:
            raise OSError(self.number, os.strerror(self.number))
        return function(*args)

    def open(self, path, flags):
        return self.call("open folder" if os.path.isdir(path) else "open", os.open, path, flags)

    def fsync(self, file):
        return self.call("fsync", os.fsync, file)

    def replace(self, a, b):
        return self.call("replace", os.replace, a, b)

    def open_file(self, path, mode):
        return File(self, self.call("open to write", open, path, mode))


class File:
    def __init__(self, disk, file):
        self.disk, self.file = disk, file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.disk.call("close", self.file.flush)
        finally:
            self.file.close()

    def write(self, raw):
        return self.disk.call("write", self.file.write, raw)

    def seek(self, at):
        return self.disk.call("seek", self.file.seek, at)


ERRORS = [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES]


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
def test_a_save_that_fails_at_any_call_keeps_the_old_file(tmp_path, monkeypatch, capsys, number):
    path, old, new = tmp_path / "a.safetensors", tensors(), {k: t + t for k, t in tensors().items()}
    save(path, old, {"epoch": 1})
    with monkeypatch.context() as patch:
        calls = Disk(patch).calls
        save(path, old, {"epoch": 1})
    writes = ["write"] * (len(old) + 1)  # the header and each tensor
    synced = ["close", "open", "fsync", "replace", "open folder", "fsync"]
    assert calls == ["open to write", *writes, "seek", "write", *synced]
    for i, name in enumerate(calls):
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as left, cli.one_line_errors():
            disk = Disk(patch, i, number)
            save(path, new, {"epoch": 2})
        assert (disk.calls[-1] == "close" and name in ("write", "seek")) or disk.calls[-1] == name
        assert left.value.code == 3
        assert capsys.readouterr().err == f"error: {path}: {os.strerror(number)}\n"
        found, words = read(path)
        if i > calls.index("replace"):  # its name alone may not be on the disk yet
            assert words == {"epoch": 2} and same(found, new)
            save(path, old, {"epoch": 1})
        else:
            assert words == {"epoch": 1} and same(found, old)
        assert os.listdir(tmp_path) == ["a.safetensors"]
    print(f"{len(calls)} calls of a save, each failed with {errno.errorcode[number]}")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as e:
        save(tmp_path / "gone" / "a.safetensors", tensors(), {})
    assert e.value.filename == str(tmp_path / "gone" / "a.safetensors")


def test_a_filesystem_that_cannot_sync_folders_is_accepted(tmp_path, monkeypatch):
    def fsync(file):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(files.os, "fsync", fsync)
    save(tmp_path / "a.safetensors", {}, {"epoch": 1})
    assert read(tmp_path / "a.safetensors")[1] == {"epoch": 1}


LIMITED = """
import resource, signal, sys, torch
from pathlib import Path
from nets.common import files, tensorfile
from nets.commands import cli
path = Path(sys.argv[1])
tensorfile.save(path, {"x": torch.zeros(1000)}, {"epoch": 1})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with cli.one_line_errors():
    tensorfile.save(path, {"x": torch.zeros(100_000)}, {"epoch": 2})
"""


def test_a_file_size_limit_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.safetensors"
    done = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, f"error: {path}: File too large\n")
    assert read(path)[1] == {"epoch": 1} and os.listdir(tmp_path) == ["a.safetensors"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.safetensors"
    save(path, tensors(), {"epoch": 1})
    (tmp_path / f".{path.name}.{os.getpid()}.part").symlink_to("/dev/full")
    with pytest.raises(OSError) as e:
        save(path, tensors(), {"epoch": 2})
    assert e.value.errno == errno.ENOSPC and e.value.filename == str(path)
    assert read(path)[1] == {"epoch": 1} and os.listdir(tmp_path) == ["a.safetensors"]


@pytest.mark.parametrize("through_link", [False, True])
def test_a_pipe_is_written_to_and_not_replaced(tmp_path, through_link):
    """Nor is a device: root could replace /dev/null by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    path = tmp_path / "link" if through_link else pipe
    if through_link:
        path.symlink_to(pipe)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_text)
        write_text(path, "text")
        assert read.result(10) == "text"
    assert pipe.is_fifo() and path.is_symlink() == through_link


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_device_that_is_full_is_named(tmp_path):
    with pytest.raises(OSError, match="/dev/full"):
        write_text(Path("/dev/full"), "text")
    assert Path("/dev/full").is_char_device()


def test_a_folder_of_the_name_is_an_error(tmp_path):
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        write_text(tmp_path, "text")


def test_text_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    files.write_text(tmp_path / "a.json", "old")
    with monkeypatch.context() as patch, pytest.raises(OSError):
        Disk(patch, 1)
        files.write_text(tmp_path / "a.json", "new")
    assert os.listdir(tmp_path) == ["a.json"] and (tmp_path / "a.json").read_text() == "old"


def test_a_link_replaces_an_older_file(tmp_path):
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    files.link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "new" and (tmp_path / "b").samefile(tmp_path / "a")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
