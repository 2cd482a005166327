"""Checkpoints: what is saved comes back, a save that fails loses nothing, a file that lies is found out."""

import errno
import hashlib
import json
import os
import pickle
import resource
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from nets.commands import cli
from nets.common import files, tensorfile
from nets.common.errors import CheckpointError
from nets.common.tensorfile import BEFORE, BLANK, DTYPES, LONGEST, read, save
from nets.layers.containers import Sequential
from nets.layers.linear import Linear


def tensors():
    """Every dtype, no dimension and four, none of a number, two names for one memory, gaps and repeats."""
    x = torch.arange(120.0).view(2, 3, 4, 5)
    kinds = {name: torch.arange(7).to(dtype) for name, dtype in DTYPES.items()}
    last, row = x.contiguous(memory_format=torch.channels_last), torch.arange(8.0)
    shapes = {"scalar": torch.tensor(2.5), "none": torch.empty(0, 3), "channels_last": last, "alias": last}
    return kinds | shapes | {"part": row[2:5], "gaps": row[::2], "expanded": row[:1].expand(3, 1)}


WORDS = {"epoch": 3, "classes": ["a", "ä", '"'], "rows": [{"loss": 0.1}, None, True], "empty": {}}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and torch.equal(a[k], b[k]) for k in a
    )


def refused(path, told: str = "") -> str:
    with pytest.raises(CheckpointError) as e:
        read(path)
    assert str(path) in str(e.value) and told in str(e.value)
    return str(e.value)


def test_what_is_saved_comes_back(tmp_path):
    path, saved = tmp_path / "a.safetensors", tensors()
    save(path, saved, WORDS)
    found, words = read(path)
    assert same(found, saved) and words == WORDS
    found["alias"][:] = 0
    assert not torch.equal(found["alias"], found["channels_last"])  # a copy each


def test_the_library_reads_it_too(tmp_path):
    save(tmp_path / "a.safetensors", tensors(), WORDS)
    assert same(load_file(tmp_path / "a.safetensors"), tensors())
    with safe_open(tmp_path / "a.safetensors", "pt") as f:
        assert json.loads(f.metadata()["words"]) == WORDS


def test_nothing_at_all_is_a_checkpoint_too(tmp_path):
    save(tmp_path / "a.safetensors", {}, {})
    assert read(tmp_path / "a.safetensors") == ({}, {})


def test_words_too_long_are_not_saved(tmp_path):
    with pytest.raises(CheckpointError, match="can't be saved"):
        save(tmp_path / "a.safetensors", {}, {"a": "x" * LONGEST})
    assert not list(tmp_path.iterdir())


# Saves that fail


class Disk:
    """Stands in for `os` and `open` in files.py and tensorfile.py; every call to the disk is counted, and may fail."""

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
def test_whichever_call_fails_the_old_checkpoint_stays(tmp_path, monkeypatch, capsys, number):
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


def test_a_folder_that_vanished(tmp_path):
    with pytest.raises(FileNotFoundError) as e:
        save(tmp_path / "gone" / "a.safetensors", tensors(), {})
    assert e.value.filename == str(tmp_path / "gone" / "a.safetensors")


def test_a_filesystem_that_cannot_sync_folders(tmp_path, monkeypatch):
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


def test_a_limit_that_the_kernel_sets(tmp_path):
    path = tmp_path / "a.safetensors"
    done = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, f"error: {path}: File too large\n")
    assert read(path)[1] == {"epoch": 1} and os.listdir(tmp_path) == ["a.safetensors"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_is_really_full(tmp_path):
    path = tmp_path / "a.safetensors"
    save(path, tensors(), {"epoch": 1})
    (tmp_path / f".{path.name}.{os.getpid()}.part").symlink_to("/dev/full")
    with pytest.raises(OSError) as e:
        save(path, tensors(), {"epoch": 2})
    assert e.value.errno == errno.ENOSPC and e.value.filename == str(path)
    assert read(path)[1] == {"epoch": 1} and os.listdir(tmp_path) == ["a.safetensors"]


def test_text_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    files.write_text(tmp_path / "a.json", "old")
    with monkeypatch.context() as patch, pytest.raises(OSError):
        Disk(patch, 1)
        files.write_text(tmp_path / "a.json", "new")
    assert os.listdir(tmp_path) == ["a.json"] and (tmp_path / "a.json").read_text() == "old"


# Damage


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small checkpoint: (its path, its bytes)."""
    path = tmp_path_factory.mktemp("damage") / "a.safetensors"
    net = Sequential(Linear(6, 5), Linear(5, 4))
    words = {"epoch": 3, "classes": ["cat", "dog"]}
    saved = {f"net.{k}": t for k, t in net.params.items()} | {"random": torch.get_rng_state()[:99]}
    save(path, saved, words)
    return path, path.read_bytes()


def test_a_hundred_truncations_are_found(small, tmp_path):
    _, raw = small
    rng, path = np.random.default_rng(0), tmp_path / "a.safetensors"
    cuts = [*range(20), len(raw) - 1, *rng.choice(np.arange(20, len(raw) - 1), 79, replace=False)]
    for n in cuts:
        path.write_bytes(raw[:n])
        refused(path)
    path.write_bytes(raw)
    assert read(path)[1]["epoch"] == 3 and len(cuts) == 100


def test_a_thousand_flipped_bits_are_found(small, tmp_path):
    _, raw = small
    rng, path = np.random.default_rng(1), tmp_path / "a.safetensors"
    bits = rng.choice(8 * len(raw), 1000, replace=False)
    assert (bits < 8 * raw.index(b"}}")).sum() > 100  # of the header as of the numbers
    for bit in bits:
        bad = bytearray(raw)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        refused(path)


def test_more_at_the_end_is_found(small, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(small[1] + b"\0")
    refused(tmp_path / "a.safetensors", "the header doesn't match the file's size")


# Files that lie


def forged(head, data: bytes = b"", sign=True) -> bytes:
    """A file with this header (bytes, or to be JSON), and the checksum that it should have."""
    if not isinstance(head, bytes):
        head = json.dumps(head).encode()
    head += b" " * (-len(head) % 8)
    whole = len(head).to_bytes(8, "little") + head + data
    at = 8 + len(BEFORE)
    return whole[:at] + hashlib.sha256(whole).hexdigest().encode() + whole[at + 64 :] if sign else whole


def table(words: str = "{}", **entries) -> dict:
    """A header for `forged`: entries are (dtype, shape, start, end)."""
    meta = {"sha256": BLANK.decode(), "words": words}
    about = {k: dict(zip(("dtype", "shape"), v), data_offsets=[*v[2:]]) for k, v in entries.items()}
    return {"__metadata__": meta} | about


def test_a_forged_file_is_read_where_nothing_in_it_lies(tmp_path):
    """So that what is refused below is refused for its lie alone."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(forged(table('{"a": 1}', x=("F32", [2], 0, 8), y=("BOOL", [3], 8, 11)), bytes(11)))
    found, words = read(path)
    assert words == {"a": 1} and same(found, {"x": torch.zeros(2), "y": torch.zeros(3, dtype=torch.bool)})


def doubled() -> bytes:
    once = json.dumps(table(x=("F32", [1], 0, 4)))
    return forged((once[:-1] + ", " + once[1:].split(", ", 2)[2]).encode(), bytes(4))


DEEP = "[" * 100_000 + "]" * 100_000
MANY = map(str, range(LONGEST // 73))
LIES = {
    "overlap": forged(table(x=("F32", [2], 0, 8), y=("F32", [2], 4, 12)), bytes(12)),
    "aliases": forged(table(x=("F32", [2], 0, 8), y=("F32", [2], 0, 8)), bytes(8)),
    "hole": forged(table(x=("F32", [2], 0, 8), y=("F32", [2], 16, 24)), bytes(24)),
    "backwards": forged(table(x=("F32", [2], 8, 0)), bytes(8)),
    "beyond the end": forged(table(x=("F32", [2], 0, 8)), bytes(4)),
    "before the end": forged(table(x=("F32", [2], 0, 8)), bytes(12)),
    "huge offsets": forged(table(x=("F32", [2], 2**62, 2**62 + 8)), bytes(8)),
    "huge shape": forged(table(x=("F32", [2**30, 2**30], 0, 2**62)), bytes(8)),
    "wrapping shape": forged(table(x=("F32", [2**32, 2**32], 0, 0))),
    "shape beyond 64 bits": forged(table(x=("F32", [2**70], 0, 2**72))),
    "empty, but huge": forged(table(x=("F32", [0, 2**40, 2**40, 2**40], 0, 0))),
    "many dimensions": forged(table(x=("F32", [1] * 1000, 0, 4)), bytes(4)),
    "negative shape": forged(table(x=("F32", [-2, -1], 0, 8)), bytes(8)),
    "shape of fractions": forged(table(x=("F32", [2.0], 0, 8.0)), bytes(8)),
    "shape of truths": forged(table(x=("F32", [True], 0, 4)), bytes(4)),
    "shape of text": forged(table(x=("F32", "", 0, 4)), bytes(4)),
    "another dtype": forged(table(x=("F64", [2], 0, 8)), bytes(8)),
    "unknown dtype": forged(table(x=("C64", [1], 0, 8)), bytes(8)),
    "dtype of a list": forged(table(x=([], [1], 0, 8)), bytes(8)),
    "neither true nor false": forged(table(x=("BOOL", [2], 0, 2)), b"\1\2"),
    "name with an escape": forged(table(**{"\x1b[2J": ("F32", [1], 0, 4)}), bytes(4)),
    "twice the same name": doubled(),
    "another order of keys": forged(dict(reversed(table(x=("F32", [1], 0, 4)).items())), bytes(4)),
    "a key more": forged(table() | {"__metadata__": {"sha256": BLANK.decode(), "words": "{}", "more": ""}}),
    "words that are a list": forged(table("[]")),
    "words that are no JSON": forged(table("{")),
    "words that are no text": forged(table({})),
    "words with NaN": forged(table('{"a": NaN}')),
    "words with infinity": forged(table('{"a": 1e999}')),
    "words twice": forged(table('{"a": 1, "a": 1}')),
    "words with a huge number": forged(table('{"a": %s}' % ("9" * 5000))),
    "words nested deeply": forged(table('{"a": %s}' % DEEP)),
    "nested deeply": forged(json.dumps(table(x=("U8", [], 0, 1))).replace("[]", DEEP).encode(), b"0"),
    "many small lists": forged(table('{"a": [%s0]}' % ("[], " * (LONGEST // 4 - 100))), sign=False),
    "many small tensors": forged(table(**dict.fromkeys(MANY, ("U8", [0], 0, 0))), sign=False),
    "a header that is too long": forged(table('{"a": "%s"}' % ("x" * LONGEST))),
    "no metadata": forged({}),
    "no table": forged([]),
    "a number": forged(1),
    "another encoding": forged(json.dumps(table()).encode("utf-16")),
    "not UTF-8": forged(b'{"\xff": 1}'),
    "no header": bytes(8),
    "a header of 2^64 bytes": b"\xff" * 8 + b"{}",
    "a header of 4 GB": (2**32).to_bytes(8, "little") + b"{}",
    "wrong checksum": forged(table(x=("F32", [1], 0, 4)), bytes(4), sign=False),
    "empty": b"",
    "seven bytes": bytes(7),
    "text": b"hello\nthere" * 100,
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_at_once_and_in_little_memory(lie, tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    path.write_bytes(LIES[lie])
    before, begin = peak(), time.process_time()
    with pytest.raises(SystemExit) as left, cli.one_line_errors():
        read(path)
    taken, error = time.process_time() - begin, capsys.readouterr().err
    assert left.value.code == 4 and error.count("\n") == 1 and len(error) < 500
    assert error.startswith(f"error: {path}: not a checkpoint of this project, or damaged (")
    assert taken < 1 and peak() - before < 500


def peak() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_a_file_larger_than_memory_is_not_read(tmp_path):
    path = tmp_path / "a.safetensors"
    head = forged(table(x=("U8", [2**46], 0, 2**46)))
    with open(path, "wb") as f:
        f.write(head)
        try:
            f.truncate(len(head) + 2**42)  # 4 TB of holes
        except OSError:
            pytest.skip("this filesystem has no files so large")
    begin = time.process_time()
    refused(path, "more than this machine's memory")
    assert time.process_time() - begin < 1


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        refused(path, "not a file")
    refused(tmp_path / "none", "no such checkpoint")
    refused(tmp_path / ("x" * 300), "too long")


def test_an_earlier_versions_checkpoint(tmp_path):
    save_file({"net.0.weight": torch.zeros(2)}, tmp_path / "a.safetensors", {"words": "{}"})
    refused(tmp_path / "a.safetensors", "it has no checksum: an earlier version wrote it; train again")


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize("dump", [pickle.dumps, lambda x: pickle.dumps(x, 0)])
def test_a_pickle_is_never_unpickled(dump, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = dump(Trap())
    for content in (raw, forged(raw), forged(table(raw.decode("latin1")), raw)):
        (tmp_path / "a.safetensors").write_bytes(content)
        refused(tmp_path / "a.safetensors")
    torch.save({"net.0.weight": torch.zeros(2)}, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors")
    assert os.listdir(tmp_path) == ["a.safetensors"]


others = [2**31, 2**40, 2**62, 2**63, 2**64, -(2**63), 0.5, True, None, "1", []]
numbers = st.integers(-2, 20) | st.sampled_from(others)
entry = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*DTYPES, "F8_E4M3", "f32", "", 1, None, []]),
        "shape": st.lists(numbers, max_size=4) | numbers,
        "data_offsets": st.lists(numbers, min_size=1, max_size=3) | st.tuples(numbers, numbers),
    }
)
names = st.sampled_from(["x", "y", "z", "", "net.0.weight", "\n"])
tables = st.dictionaries(names, entry | numbers, max_size=3)


@given(tables, st.integers(0, 64), st.sampled_from(["{}", '{"a": 1}', "[]", '{"a":1}', "", "NaN", '"']))
@example({"x": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}, 2, "{}")
def test_any_header_is_refused_or_right(tmp_path_factory, entries, length, words):
    path = tmp_path_factory.getbasetemp() / "forged.safetensors"
    path.write_bytes(forged(table(words) | entries, bytes(length)))
    try:
        found, words = read(path)
    except CheckpointError:
        return
    assert sum(t.nbytes for t in found.values()) == length  # all of the file, and nothing twice
    assert list(found) == list(entries) and all(not t.any() for t in found.values())
    library = load_file(path)  # which has its own checks
    assert same(found, library)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "bytes.safetensors"
    for content in (raw, len(raw).to_bytes(8, "little") + raw, forged(raw), forged(BEFORE + raw)):
        path.write_bytes(content)
        refused(path)


# Into a net


def test_restore_names_what_differs(tmp_path):
    net = Sequential(Linear(3, 2))
    good = {f"net.{k}": torch.full_like(t, 2) for k, t in net.params.items()}
    tensorfile.restore(net, good | {"momentum.0.weight": torch.zeros(1)}, "a")
    assert all((t == 2).all() for t in net.params.values())
    for change, told in [
        ({"net.0.weight": torch.zeros(2, 4)}, r"0.weight is \(2, 4\), not \(2, 3\)"),
        ({"net.0.weight": torch.zeros(2, 3).double()}, "0.weight is torch.float64, not torch.float32"),
        ({"net.0.weight": torch.zeros(2, 3).bool()}, "0.weight is torch.bool, not torch.float32"),
        ({"net.1.weight": torch.zeros(2, 3)}, "the net has no 1.weight"),
    ]:
        with pytest.raises(CheckpointError, match=f"a: doesn't match its config: {told}"):
            tensorfile.restore(net, {k: t * 0 for k, t in good.items()} | change, "a")
    with pytest.raises(CheckpointError, match="has no tensor 0.bias"):
        tensorfile.restore(net, {"net.0.weight": torch.zeros(2, 3)}, "a")
    assert all((t == 2).all() for t in net.params.values())  # all or nothing
