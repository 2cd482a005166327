"""Tensors and JSON metadata in a safetensors file, with a checksum over all of it.

A safetensors file is the length of a header, the header, which says in JSON what lies where, and the
tensors' bytes. `save` has one way to write it. `read` takes names, dtypes, shapes and metadata from the
header, and accepts it only if it is, byte for byte, what `save` writes for them. Nothing is unpickled.
"""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nets.common.device import memory_capacity
from nets.common.errors import CheckpointError, NonFiniteError
from nets.common.files import atomic_write

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPES |= {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8}
DTYPES |= {"U8": torch.uint8, "BOOL": torch.bool}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
# the checksum has a fixed place and is filled in last; it is computed with zeros in that place
BEFORE = b'{"__metadata__": {"sha256": "'
BLANK = b"0" * 64
LONGEST = 2**20  # bytes of a header: parsed, it can take twenty times as much memory


def save(path: Path, tensors: dict[str, Tensor], metadata: dict):
    """Save tensors and metadata (JSON), whole or not at all: after an OSError the old file is untouched.

    Tensors can be on any device, of any layout, and share memory; their values are written.
    """
    head = _header({k: (NAMES[t.dtype], list(t.shape)) for k, t in tensors.items()}, metadata)
    if len(head) > LONGEST:
        raise CheckpointError(f"{path}: can't be saved: its metadata takes more than {LONGEST:,} bytes")
    checksum = hashlib.sha256(head)
    with atomic_write(Path(path)) as part, open(part, "wb") as file:
        file.write(head)
        for t in tensors.values():
            raw = _bytes(t.detach().cpu().contiguous())
            file.write(raw)
            checksum.update(raw)
        file.seek(8 + len(BEFORE))
        file.write(checksum.hexdigest().encode())


def _header(kinds: dict, metadata: dict) -> bytes:
    """The start of a file with this metadata and these tensors, with zeros for the checksum.

    kinds: name -> (dtype's name, shape), in the tensors' order.
    """
    meta = {"sha256": BLANK.decode(), "words": json.dumps(metadata, allow_nan=False)}
    table: dict[str, dict] = {"__metadata__": meta}
    end = 0
    for name, (dtype, shape) in kinds.items():
        start, end = end, end + _size(dtype, shape)
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _size(dtype: str, shape) -> int:
    return math.prod(shape) * DTYPES[dtype].itemsize


def _bytes(t: Tensor) -> Any:  # numpy arrays are typed as buffers from Python 3.12 on
    """A contiguous tensor's memory, as a flat numpy array of bytes."""
    return t.view(-1).view(torch.uint8).numpy()


def read(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Returns (tensors, metadata). CheckpointError if the file is missing, damaged or not a checkpoint."""
    path = Path(path)
    try:
        if not path.is_file():  # opening a pipe would wait for its writer
            raise CheckpointError(f"{path}: {'not a file' if path.exists() else 'no such checkpoint'}")
        with open(path, "rb") as file:
            return _read(file)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, MemoryError) as e:
        raise CheckpointError(f"{path}: not a checkpoint of this project, or damaged ({_why(e)})") from None


def _why(e: Exception) -> str:
    return str(e) if type(e) is ValueError else getattr(e, "strerror", None) or "invalid header"


def _read(file):
    size = os.fstat(file.fileno()).st_size
    if size > memory_capacity():
        raise ValueError(f"{size:,} bytes are more than this machine's memory")
    length = file.read(8)
    rest = int.from_bytes(length, "little")
    if rest > LONGEST:
        raise ValueError("the header is too long")
    head = length + file.read(rest)
    kinds, metadata = _contents(json.loads(head[8:]))
    at = 8 + len(BEFORE)
    written, head = head[at : at + 64], head[:at] + BLANK + head[at + 64 :]
    if head != _header(kinds, metadata):
        raise ValueError("inconsistent header")
    if len(head) + sum(_size(*kind) for kind in kinds.values()) != size:
        raise ValueError("the header doesn't match the file's size")
    checksum, tensors = hashlib.sha256(head), {}
    for name, (dtype, shape) in kinds.items():
        t = torch.empty(math.prod(shape), dtype=DTYPES[dtype])
        raw = _bytes(t)
        file.readinto(raw)
        checksum.update(raw)
        if dtype == "BOOL" and raw.max(initial=0) > 1:
            raise ValueError(f"{name}: a boolean is neither 0 nor 1")
        tensors[name] = t.view(shape)
    if checksum.hexdigest().encode() != written:
        raise ValueError("checksum mismatch")
    return tensors, metadata


def _contents(table) -> tuple[dict, dict]:
    """A header's contents: (name -> (dtype's name, shape), metadata)."""
    meta = table.pop("__metadata__")
    if "sha256" not in meta:
        raise ValueError("it has no checksum: an earlier version wrote it; train again")
    metadata = json.loads(meta["words"])
    if not isinstance(metadata, dict):
        raise ValueError("the metadata is not a table")
    kinds = {name: (about["dtype"], about["shape"]) for name, about in table.items()}
    for name, (dtype, shape) in kinds.items():
        whole_numbers = isinstance(shape, list) and all(type(n) is int and 0 <= n < 2**40 for n in shape)
        if dtype not in DTYPES or not whole_numbers or len(shape) > 8 or not name.isprintable():
            raise ValueError(f"{name[:60]!r}: unsupported name, dtype or shape")
    return kinds, metadata


def restore(net, tensors: dict[str, Tensor], path):
    """Copy the tensors called net.<name> into the net. See `match` for what is refused."""
    net.load_state_dict(match(net, tensors, path))


def match(net, tensors: dict[str, Tensor], path) -> dict[str, Tensor]:
    """The tensors called net.<name>, by name. The net may be without memory.

    CheckpointError names the first that is missing, unknown, or of another shape or dtype. NonFiniteError
    names one with an infinite or NaN number.
    """
    saved = {k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")}
    check(net.state_dict(), saved, f"{path}: doesn't match its config: ")
    check_finite(saved, path)
    return saved


def check_finite(tensors: dict[str, Tensor], path):
    """NonFiniteError names the first of a net's tensors with an infinite or NaN number."""
    for name, t in tensors.items():
        if not t.isfinite().all():
            raise NonFiniteError(f"{path}: {name} has an infinite or NaN number; such a net is of no use")


def check(
    wanted: dict[str, Tensor],
    saved: dict[str, Tensor],
    where: str = "",
    unknown: bool = False,
    any_dtype: bool = False,
):
    """CheckpointError names the first tensor that is missing, unknown, or of another shape or dtype.

    where      the start of the message
    unknown    saved may have tensors that are not wanted
    any_dtype  dtypes may differ
    """
    for name, t in wanted.items():
        if name not in saved:
            raise CheckpointError(f"{where}has no tensor {name}")
        a, b = tuple(saved[name].shape), tuple(t.shape)
        if a == b and not any_dtype:
            a, b = saved[name].dtype, t.dtype
        if a != b:
            raise CheckpointError(f"{where}{name} is {a}, not {b}")
    for name in [] if unknown else saved:
        if name not in wanted:
            raise CheckpointError(f"{where}the net has no {name}")
