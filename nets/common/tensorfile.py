"""Checkpoints: tensors in safetensors, words in its metadata, and a checksum over both.

A safetensors file is the length of a header, the header, which says in JSON what lies where, and
the tensors' bytes. `save` writes it in one way only; so `read` takes names, dtypes, shapes and words
from a header, and then trusts it only if it is, byte for byte, what `save` would have written for them.
Nothing is ever unpickled.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
from pathlib import Path

import torch
from torch import Tensor

from nets.common.device import capacity
from nets.common.errors import CheckpointError

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPES |= {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8}
DTYPES |= {"U8": torch.uint8, "BOOL": torch.bool}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
# the checksum stands where it can be found and filled in last; it is over a file that has zeros for it
BEFORE = b'{"__metadata__": {"sha256": "'
BLANK = b"0" * 64
LONGEST = 2**20  # bytes of a header: as Python objects they can take twenty times as much


@contextlib.contextmanager
def whole(path: Path):
    """Gives a path to write to, which becomes `path` at the end, or vanishes on an error.

    What is there then is on the disk itself. An OSError names `path`.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        _sync(part)
        os.replace(part, path)
        _sync(path.parent)
    except OSError as e:
        e.filename, e.filename2 = str(path), None
        raise
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _sync(path: Path):
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as e:
        if e.errno != errno.EINVAL:  # some filesystems have no such call for folders
            raise
    finally:
        os.close(file)


def write(path: Path, text: str):
    """Write a text file whole or not at all."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def also(path: Path, other: Path):
    """The file at `path` under another name too, whole or not at all."""
    with whole(other) as part:
        os.link(path, part)


def save(path: Path, tensors: dict[str, Tensor], words: dict):
    """Save tensors and words (JSON), whole or not at all: on an OSError what was there is untouched.

    A tensor may be on any device, of any layout, or another one's alias; it is written as its values.
    """
    head = _header({k: (NAMES[t.dtype], list(t.shape)) for k, t in tensors.items()}, words)
    if len(head) > LONGEST:
        raise CheckpointError(f"{path}: can't be saved, as its words take more than {LONGEST:,} bytes")
    checksum = hashlib.sha256(head)
    with whole(Path(path)) as part, open(part, "wb") as file:
        file.write(head)
        for t in tensors.values():
            raw = _bytes(t.detach().cpu().contiguous())
            file.write(raw)
            checksum.update(raw)
        file.seek(8 + len(BEFORE))
        file.write(checksum.hexdigest().encode())


def _header(kinds: dict, words: dict) -> bytes:
    """How a file with these words and tensors begins, its checksum not yet filled in.

    kinds: name -> (dtype's name, shape), in the order in which the tensors follow.
    """
    meta = {"sha256": BLANK.decode(), "words": json.dumps(words, allow_nan=False)}
    table, end = {"__metadata__": meta}, 0
    for name, (dtype, shape) in kinds.items():
        start, end = end, end + _size(dtype, shape)
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _size(dtype: str, shape) -> int:
    return math.prod(shape) * DTYPES[dtype].itemsize


def _bytes(t: Tensor):
    """A contiguous tensor's memory, as a flat array of bytes."""
    return t.view(-1).view(torch.uint8).numpy()


def read(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Returns (tensors, words). CheckpointError where the file is missing, damaged or no checkpoint."""
    path = Path(path)
    try:
        if not path.is_file():  # to open a pipe would be to wait for someone who writes
            raise CheckpointError(f"{path}: {'not a file' if path.exists() else 'no such checkpoint'}")
        with open(path, "rb") as file:
            return _read(file)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, MemoryError) as e:
        raise CheckpointError(f"{path}: not a checkpoint of this project, or damaged ({_why(e)})") from None


def _why(e: Exception) -> str:
    return str(e) if type(e) is ValueError else getattr(e, "strerror", None) or "its header makes no sense"


def _read(file):
    size = os.fstat(file.fileno()).st_size
    if size > capacity():
        raise ValueError(f"{size:,} bytes are more than this machine's memory")
    length = file.read(8)
    rest = int.from_bytes(length, "little")
    if rest > LONGEST:
        raise ValueError("its header is too long")
    head = length + file.read(rest)
    kinds, words = _contents(json.loads(head[8:]))
    at = 8 + len(BEFORE)
    written, head = head[at : at + 64], head[:at] + BLANK + head[at + 64 :]
    if head != _header(kinds, words):
        raise ValueError("its header contradicts itself")
    if len(head) + sum(_size(*kind) for kind in kinds.values()) != size:
        raise ValueError("its header tells of more bytes or fewer")
    checksum, tensors = hashlib.sha256(head), {}
    for name, (dtype, shape) in kinds.items():
        t = torch.empty(math.prod(shape), dtype=DTYPES[dtype])
        raw = _bytes(t)
        file.readinto(raw)
        checksum.update(raw)
        if dtype == "BOOL" and raw.max(initial=0) > 1:
            raise ValueError(f"{name}: neither true nor false")
        tensors[name] = t.view(shape)
    if checksum.hexdigest().encode() != written:
        raise ValueError("its checksum is another")
    return tensors, words


def _contents(table) -> tuple[dict, dict]:
    """What a header says is there: (name -> (dtype's name, shape), words)."""
    meta = table.pop("__metadata__")
    if "sha256" not in meta:
        raise ValueError("it has no checksum, as those of earlier versions: train again")
    words = json.loads(meta["words"])
    if not isinstance(words, dict):
        raise ValueError("its words are no table")
    kinds = {name: (about["dtype"], about["shape"]) for name, about in table.items()}
    for name, (dtype, shape) in kinds.items():
        whole_numbers = isinstance(shape, list) and all(type(n) is int and 0 <= n < 2**40 for n in shape)
        if dtype not in DTYPES or not whole_numbers or len(shape) > 8 or not name.isprintable():
            raise ValueError("one of its tensors is of no known kind")
    return kinds, words


def restore(net, tensors: dict[str, Tensor], path):
    """Copy the tensors called net.<name> into the net. CheckpointError names the first that differs."""
    here = net.params | net.buffers
    saved = {k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")}
    check(here, saved, path)
    for name in saved.keys() - here.keys():
        raise CheckpointError(f"{path}: doesn't match its config: the net has no {name}")
    for name, t in here.items():
        t.copy_(saved[name])


def check(here: dict[str, Tensor], saved: dict[str, Tensor], path):
    """CheckpointError names the first tensor of `here` that isn't saved alike."""
    for name, t in here.items():
        if name not in saved:
            raise CheckpointError(f"{path}: doesn't match its config: has no tensor {name}")
        for kind in (lambda t: tuple(t.shape), lambda t: t.dtype):
            a, b = kind(saved[name]), kind(t)
            if a != b:
                raise CheckpointError(f"{path}: doesn't match its config: {name} is {a}, not {b}")
