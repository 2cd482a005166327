"""CIFAR-10 and CIFAR-100: the published archives, read only if every checksum matches.

The archives hold pickles, and a pickle may call any function that it names. The reader here allows
only the three names that make a numpy array, and replaces them by classes that just store their
arguments. So a file runs no code, even one that is made to have the published MD5.
"""

import hashlib
import io
import math
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nets.common.errors import DataError
from nets.common.extras import require

MAX_FILE_BYTES = 2**28  # the largest file has 155 MB


@dataclass(frozen=True)
class Archive:
    """A published archive. Each file is (name, MD5)."""

    url: str
    md5: str
    folder: str  # that the archive unpacks to
    train: tuple[tuple[str, str], ...]
    test: tuple[tuple[str, str], ...]
    meta: tuple[str, str]  # the file of the class names
    names_key: str  # of the class names in that file
    labels_key: str


# Source: https://www.cs.toronto.edu/~kriz/cifar.html; the files' MD5s as in torchvision.datasets
ARCHIVES = {
    "cifar10": Archive(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        md5="c58f30108f718f92721af3b95e74349a",
        folder="cifar-10-batches-py",
        train=(
            ("data_batch_1", "c99cafc152244af753f735de768cd75f"),
            ("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
            ("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
            ("data_batch_4", "634d18415352ddfa80567beed471001a"),
            ("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
        ),
        test=(("test_batch", "40351d587109b95175f43aff81a1287e"),),
        meta=("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
        names_key="label_names",
        labels_key="labels",
    ),
    "cifar100": Archive(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        md5="eb9058c3a382ffc7106e4002c42a8d85",
        folder="cifar-100-python",
        train=(("train", "16019d7e3df5f24257cddd939b257f8d"),),
        test=(("test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),),
        meta=("meta", "7973b15100ade9c7d40fb424638fde48"),
        names_key="fine_label_names",
        labels_key="fine_labels",
    ),
}


def load(root: Path, archive: Archive) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[str, ...]]:
    """Read root/archive.folder: (train_x, train_y, test_x, test_y, class names).

    x uint8 (N, 32, 32, 3), y int64 (N). A missing folder is downloaded.
    DataError if the download fails, or if a file is not the published one. UsageError if a download
    needs torchvision and it is not installed.
    """
    folder = root / archive.folder
    if not folder.exists():
        _download(root, archive)
    try:
        names = _class_names(_read(folder, *archive.meta)[archive.names_key])
        train_x, train_y = _split(folder, archive.train, archive.labels_key, len(names))
        test_x, test_y = _split(folder, archive.test, archive.labels_key, len(names))
    except Exception as e:  # unpickled content of any kind, and what numpy raises on it
        reason = f"damaged or incomplete ({str(e) or type(e).__name__})"
        raise DataError(f"{folder}: {reason}; delete it to download it again") from None
    return train_x, train_y, test_x, test_y, names


def _download(root: Path, archive: Archive):
    utils = require("torchvision.datasets.utils", "vision", f"the download of {archive.folder}")
    existed = root.exists()
    try:
        filename = archive.url.rsplit("/", 1)[1]
        utils.download_and_extract_archive(archive.url, str(root), filename=filename, md5=archive.md5)
    except (OSError, RuntimeError) as e:
        if not existed and root.is_dir() and not any(root.iterdir()):
            root.rmdir()
        raise DataError(
            f"{archive.url} can't be downloaded ({e}); if you have the data, set --data-root to the"
            f" folder that holds {archive.folder}, or train/ and test/ with one folder per class"
        ) from None


def _split(folder: Path, files, labels_key: str, num_classes: int) -> tuple[Tensor, Tensor]:
    parts = [_batch(_read(folder, name, md5), labels_key, num_classes) for name, md5 in files]
    x, y = (torch.from_numpy(np.concatenate(part)) for part in zip(*parts))
    return x, y


def _read(folder: Path, name: str, md5: str):
    """Unpickle a file if its MD5 matches. ValueError if not."""
    path = folder / name
    if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{name} is missing, not a file, or too large")
    raw = path.read_bytes()
    if hashlib.md5(raw, usedforsecurity=False).hexdigest() != md5:
        raise ValueError(f"{name}: checksum mismatch")
    return _Unpickler(io.BytesIO(raw), encoding="latin1").load()


class _Array:
    """Replaces numpy.ndarray and its constructor; stores the state (…, shape, dtype, order, data)."""

    def __init__(self, *_):
        self.state = ()

    def __setstate__(self, state):
        self.state = state


class _Type(_Array):
    """Replaces numpy.dtype; stores its name."""

    def __init__(self, name="", *_):
        self.name = name


STAND_INS: dict[str, type] = {"numpy.ndarray": _Array, "numpy.dtype": _Type}
# numpy's name for it before 2.0, and since
STAND_INS |= {f"numpy.{core}.multiarray._reconstruct": _Array for core in ("core", "_core")}


class _Unpickler(pickle.Unpickler):
    """Reads containers, strings, numbers and arrays; no other class or function."""

    def find_class(self, module, name):
        full_name = f"{module}.{name}"
        if full_name not in STAND_INS:
            raise pickle.UnpicklingError(f"{full_name!r} is not allowed in it")
        return STAND_INS[full_name]


def _class_names(value) -> tuple[str, ...]:
    if type(value) is not list or not all(type(n) is str and n.isprintable() for n in value):
        raise ValueError("the class names are not a list of printable strings")
    return tuple(value)


def _batch(content: dict, labels_key: str, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """One file's images uint8 (N, 32, 32, 3) and labels int64 (N)."""
    _, shape, dtype, fortran_order, raw = content["data"].state
    raw = raw.encode("latin1") if isinstance(raw, str) else raw  # a string of Python 2 is bytes
    labels = content[labels_key]
    if (dtype.name, bool(fortran_order), shape[1:]) != ("u1", False, (3072,)) or math.prod(shape) != len(raw):
        raise ValueError("the images are not bytes of 32 × 32 × 3")
    if len(labels) != shape[0] or not all(type(y) is int and 0 <= y < num_classes for y in labels):
        raise ValueError("the labels do not match the images or the classes")
    x = np.frombuffer(raw, np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return x, np.array(labels, np.int64)
