"""Digests of a data set: the same for the same samples, whatever machine, folder or process read them."""

import hashlib
import os
from typing import Any

import torch
from torch import Tensor

from nets.data.datasets import Dataset
from nets.data.stream import ImageStream

SPLITS = ("train", "val", "test")


def digest(data: Dataset) -> str:
    """SHA-256, in hexadecimal, of the classes, and of each split's samples and labels in order."""
    return hashlib.sha256(repr((data.classes, data.crop_size, parts(data))).encode()).hexdigest()


def parts(data: Dataset) -> dict[str, str]:
    """The digests of each split's samples and labels, by names such as "train samples".

    Samples in memory count with their contents, "bytes …"; those of a stream with their files' names and
    sizes, "files …".
    """
    found = {}
    for split in SPLITS:
        x, y = getattr(data, f"{split}_x"), getattr(data, f"{split}_y")
        if x is not None:
            found[f"{split} samples"] = _files(x) if isinstance(x, ImageStream) else _bytes(x)
            found[f"{split} labels"] = _bytes(y)
    return found


def comparable(a: str, b: str) -> bool:
    """Are two digests of samples of one kind? One data set can be in memory and be a stream."""
    return a.split()[:1] == b.split()[:1]


def _files(x: ImageStream) -> str:
    total = hashlib.sha256(repr(tuple(x.shape)).encode())
    for i, path in enumerate(x.files):
        total.update(x.files.name(i) + f"\0{os.stat(path).st_size}\n".encode())
    return f"files {total.hexdigest()}"


def _bytes(t: Tensor) -> str:
    t = t.detach().cpu().contiguous()
    total = hashlib.sha256(f"{t.dtype} {tuple(t.shape)}".encode())
    raw: Any = t.reshape(-1).view(torch.uint8).numpy()  # typed as a buffer from Python 3.12 on
    total.update(raw)
    return f"bytes {total.hexdigest()}"
