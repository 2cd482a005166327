"""From tensors, Datasets of torch, DataLoaders and image trees to a data set."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import Dataset as TorchDataset

from nets.common.errors import UsageError
from nets.data.datasets import Dataset, image_dataset
from nets.training.loader import as_tensor, first_batch, pair


def is_path(source) -> bool:
    return isinstance(source, (str, os.PathLike))


def dataset(train, test, names: Sequence[str] = (), seed: int = 0) -> Dataset:
    """The data set of training and test samples; test may be None. `classes` has only the given names.

    For a DataLoader, the data set has only the first training batch: every epoch draws other batches.
    """
    if isinstance(train, DataLoader):
        train_x, train_y = samples(first_batch(train, seed), "train")
        if train_x.dtype == torch.uint8:
            raise UsageError("train: a DataLoader must give floats; convert its images in the transform")
    else:
        train_x, train_y = samples(train, "train")
    test_x, test_y = (None, None) if test is None else samples(test, "test")
    if test_x is not None and test_y is not None:
        for name, a, b in (("x", train_x, test_x), ("y", train_y, test_y)):
            if a.shape[1:] != b.shape[1:] or a.dtype != b.dtype:
                kinds = f"{_kind(b)} in test, {_kind(a)} in train"
                raise UsageError(f"test: a sample's {name} is {kinds}")
    if train_x.dtype == torch.uint8 and train_x.dim() in (3, 4):
        train_x, test_x = _images(train_x), None if test_x is None else _images(test_x)
        return image_dataset(train_x, train_y, test_x, test_y, names)
    return Dataset(train_x, train_y, test_x, test_y, tuple(names))


def _kind(t: Tensor) -> str:
    return f"{t.dtype} {tuple(t.shape[1:])}".removeprefix("torch.")


def _images(x: Tensor) -> Tensor:
    x = x[..., None] if x.dim() == 3 else x
    if x.shape[3] not in (1, 3):
        shape = tuple(x.shape)
        raise UsageError(f"uint8 images are (N, H, W), or (N, H, W, C) with 1 or 3 channels, not {shape}")
    return x


def samples(source, name: str) -> tuple[Tensor, Tensor]:
    """(x, y) of all samples of a source, in order."""
    if isinstance(source, TensorDataset) and len(source.tensors) == 2:
        source = source.tensors
    if isinstance(source, (DataLoader, TorchDataset)):
        with torch.random.fork_rng(devices=[]):
            source = _read_loader(source, name) if isinstance(source, DataLoader) else _read(source, name)
    return pair(source, name)


def _read(source: Any, name: str) -> tuple[Tensor, Tensor]:
    """Every sample of a map-style Dataset."""
    if not hasattr(source, "__len__"):
        raise UsageError(f"{name}: a Dataset without a length; pass a DataLoader")
    pairs = []
    for i in range(len(source)):
        sample = source[i]
        if not isinstance(sample, (tuple, list)) or len(sample) != 2:
            kind = type(sample).__name__
            raise UsageError(f"{name}: a sample of the Dataset must be a pair (x, y), not {kind}")
        pairs.append([as_tensor(t, f"{name}: a sample's {part}") for part, t in zip("xy", sample)])
    if not pairs:
        raise UsageError(f"{name}: a Dataset without samples")
    try:
        x, y = (torch.stack(parts) for parts in zip(*pairs))
    except RuntimeError:
        raise UsageError(f"{name}: the Dataset's samples differ in shape; pass a DataLoader") from None
    return x, y


def _read_loader(source: DataLoader, name: str) -> tuple[Tensor, Tensor]:
    """Every batch of a DataLoader, in one."""
    batches = [pair(batch, name) for batch in source]
    if not batches:
        raise UsageError(f"{name}: a DataLoader without batches")
    x, y = (torch.cat(parts) for parts in zip(*batches))
    return x, y
