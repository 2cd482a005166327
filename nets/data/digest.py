"""A digest of a data set: the same for the same samples, whatever machine, folder or process read them."""

import hashlib
import os

import torch
from torch import Tensor

from nets.data.datasets import Dataset
from nets.data.stream import ImageStream


def digest(data: Dataset) -> str:
    """SHA-256, in hexadecimal, of the classes, and of each split's samples and labels in order.

    Samples in memory count with their contents; those of a stream with their file's name and size.
    """
    total = hashlib.sha256(repr((data.classes, data.crop_size)).encode())
    for x, y in ((data.train_x, data.train_y), (data.test_x, data.test_y)):
        if isinstance(x, ImageStream):
            total.update(repr(tuple(x.shape)).encode())
            for i, path in enumerate(x.files):
                total.update(x.files.name(i) + f"\0{os.stat(path).st_size}\n".encode())
        else:
            _add(total, x)
        _add(total, y)
    return total.hexdigest()


def _add(total, t: Tensor | None):
    if t is None:
        total.update(b"None")
        return
    t = t.detach().cpu().contiguous()
    total.update(f"{t.dtype} {tuple(t.shape)}".encode())
    total.update(t.reshape(-1).view(torch.uint8).numpy())
