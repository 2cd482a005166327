"""A damaged or forged tensor file is refused, quickly and in little memory. Nothing is unpickled."""

import gc
import hashlib
import json
import os
import pickle
import resource
import time

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from nets.commands import cli
from nets.common.errors import CheckpointError
from nets.common.tensorfile import BEFORE, BLANK, DTYPES, LONGEST, read, save
from nets.layers.containers import Sequential
from nets.layers.linear import Linear
from tests.common.test_tensorfile import same


def refused(path, message: str = "") -> str:
    with pytest.raises(CheckpointError) as e:
        read(path)
    assert str(path) in str(e.value) and message in str(e.value)
    return str(e.value)


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


def test_extra_bytes_at_the_end_are_found(small, tmp_path):
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


def test_a_consistent_forged_file_is_read(tmp_path):
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
    "words with a huge number": forged(table('{"a": ' + "9" * 5000 + "}")),
    "words nested deeply": forged(table('{"a": ' + DEEP + "}")),
    "nested deeply": forged(json.dumps(table(x=("U8", [], 0, 1))).replace("[]", DEEP).encode(), b"0"),
    "many small lists": forged(table('{"a": [' + "[], " * (LONGEST // 4 - 100) + "0]}"), sign=False),
    "many small tensors": forged(table(**dict.fromkeys(MANY, ("U8", [0], 0, 0))), sign=False),
    "a header that is too long": forged(table('{"a": "' + "x" * LONGEST + '"}')),
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
def test_a_forged_file_is_refused_quickly_in_little_memory(lie, tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    path.write_bytes(LIES[lie])
    gc.collect()
    gc.freeze()  # the time of a collection is that of all other tests' objects
    before, begin = peak(), time.process_time()
    with pytest.raises(SystemExit) as left, cli.one_line_errors():
        read(path)
    gc.unfreeze()
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


def test_pipes_devices_and_folders_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        refused(path, "not a file")
    refused(tmp_path / "none", "no such checkpoint")
    refused(tmp_path / ("x" * 300), "too long")


def test_a_checkpoint_without_a_checksum_is_refused(tmp_path):
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
def test_a_generated_header_is_refused_or_right(tmp_path_factory, entries, length, words):
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
def test_generated_bytes_are_refused(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "bytes.safetensors"
    for content in (raw, len(raw).to_bytes(8, "little") + raw, forged(raw), forged(BEFORE + raw)):
        path.write_bytes(content)
        refused(path)


# Into a net
