"""CIFAR's official archives: pickles, read only if they are the published ones, and by a reader of our own.

A pickle may call any function that it names. Here it can name three, numpy's for an array, and gets
stand-ins that keep what they are given. So a file that is not what it should be runs nothing, even if
somebody finds one of the same MD5.
"""

import hashlib
import io
import math
import pickle
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nets.common.errors import DataError

LARGEST = 2**28  # bytes of a file; the largest of them has 155 million


def load(root: Path, source) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[str, ...]]:
    """(train_x, train_y, test_x, test_y, class names) of an archive; x uint8 (N, 32, 32, 3), y int64.

    source: torchvision's class, which knows the files' names, MD5s and address. The archive is
    downloaded where it is missing. DataError where that fails, or where a file is another one.
    """
    folder = root / source.base_folder
    if not folder.exists():
        _download(root, source)
    try:
        names = _names(_read(folder / source.meta["filename"], source.meta["md5"])[source.meta["key"]])
        parts = []
        for files in (source.train_list, source.test_list):
            batches = [_batch(_read(folder / name, md5), len(names)) for name, md5 in files]
            parts += [torch.from_numpy(np.concatenate(part)) for part in zip(*batches)]
    except Exception as e:  # whatever is in a file, and whatever numpy makes of it
        reason = f"damaged or incomplete ({str(e) or type(e).__name__})"
        raise DataError(f"{folder}: {reason}; delete it to have it downloaded anew") from None
    return *parts, names


def _download(root: Path, source):
    from torchvision.datasets.utils import download_and_extract_archive

    here = root.exists()
    try:
        download_and_extract_archive(source.url, str(root), filename=source.filename, md5=source.tgz_md5)
    except (OSError, RuntimeError) as e:
        if not here and root.is_dir() and not any(root.iterdir()):
            root.rmdir()
        raise DataError(
            f"{source.url} can't be downloaded ({e}); with a copy of your own, point --data-root"
            f" at the folder that holds {source.base_folder}, or train/ and test/ with a folder a class"
        ) from None


def _read(path: Path, md5: str):
    """What a file holds, if it is the one with this MD5. ValueError and others where it is not."""
    if not path.is_file() or path.stat().st_size > LARGEST:
        raise ValueError(f"{path.name} is missing, or no such file")
    raw = path.read_bytes()
    if hashlib.md5(raw, usedforsecurity=False).hexdigest() != md5:
        raise ValueError(f"{path.name} is not the published file")
    return _Unpickler(io.BytesIO(raw), encoding="latin1").load()


class _Array:
    """Stands in for a numpy array and for what makes one: keeps its state, (…, shape, dtype, order, data)."""

    def __init__(self, *_):
        self.state = ()

    def __setstate__(self, state):
        self.state = state


class _Type(_Array):
    """Stands in for a numpy dtype, of which only the name is kept."""

    def __init__(self, name="", *_):
        self.name = name


STAND_INS = {"numpy.ndarray": _Array, "numpy.dtype": _Type}
# numpy's name for it before 2.0, and after
STAND_INS |= {f"numpy.{core}.multiarray._reconstruct": _Array for core in ("core", "_core")}


class _Unpickler(pickle.Unpickler):
    """Plain containers, texts, numbers and arrays; nothing else has a name."""

    def find_class(self, module, name):
        asked = f"{module}.{name}"
        if asked not in STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {asked!r}")
        return STAND_INS[asked]


def _names(found) -> tuple[str, ...]:
    if type(found) is not list or not all(type(n) is str and n.isprintable() for n in found):
        raise ValueError("its classes have no names")
    return tuple(found)


def _batch(found: dict, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """One file's pictures (N, 32, 32, 3) and labels (N)."""
    _, shape, dtype, by_columns, raw = found["data"].state
    raw = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2's strings are bytes
    labels = found["labels"] if "labels" in found else found["fine_labels"]
    if (dtype.name, bool(by_columns), shape[1:]) != ("u1", False, (3072,)) or math.prod(shape) != len(raw):
        raise ValueError("its pictures are no bytes, or not of 32 × 32")
    if len(labels) != shape[0] or not all(type(y) is int and 0 <= y < classes for y in labels):
        raise ValueError("its labels are not those of its pictures")
    x = np.frombuffer(raw, np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return x, np.array(labels, np.int64)
