"""An image tree in memory: decoded once, and kept as bytes.

The decoded images are cached in root/.nets-cache.safetensors. The cache is rebuilt when the name,
size or modification time of any file has changed.
"""

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from nets.common import tensorfile
from nets.common.errors import CheckpointError, DataError
from nets.data.images import check_same_size, decode, first_readable
from nets.data.tree import FileList

CACHE = ".nets-cache.safetensors"
Loaded = tuple[Tensor, Tensor, Tensor, Tensor, dict[str, str]]


def load(
    root, splits: dict[str, FileList], size: int = 0, channels: int = 3, on_error: str = "stop"
) -> Loaded:
    """Decode a tree, or read its cache: (train_x, train_y, test_x, test_y, skipped).

    x uint8 (N, H, W, C), y int64 (N), skipped {path: reason}.
    size: the side to which images are scaled and cropped; 0 where all have the same size.
    on_error: "skip" leaves unreadable files out and lists them in skipped; "stop" raises.
    DataError names an unreadable file, an image of another size, or a class without images.
    """
    root = Path(root)
    key = _cache_key(splits, size, channels, on_error)
    cached = _read_cache(root / CACHE, key)
    if cached is not None:
        return cached
    tensors, skipped = {}, {}
    for split, files in splits.items():
        x, unreadable = _decode_all(files, size, channels, split, on_error == "skip")
        kept = files.without(unreadable)
        if len(np.setdiff1d(files.y, kept.y)):
            raise DataError(f"{next(iter(unreadable.values()))}; no other file of its class can be read")
        tensors[f"{split}_x"] = x
        tensors[f"{split}_y"] = torch.from_numpy(kept.y)
        skipped |= {files[i]: reason for i, reason in unreadable.items()}
    if tensors["train_x"].shape[1:] != tensors["test_x"].shape[1:]:
        raise DataError(f"{root}: images in train/ and test/ differ in size; set data.size")
    _write_cache(root / CACHE, key, tensors, skipped)
    return *_parts(tensors), skipped


def _parts(tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return tensors["train_x"], tensors["train_y"], tensors["test_x"], tensors["test_y"]


def _decode_all(
    files: FileList, size: int, channels: int, split: str, skip: bool
) -> tuple[Tensor, dict[int, str]]:
    """(images uint8 (N − unreadable, H, W, C), {index: reason} of unreadable files)."""
    shape = first_readable(files, size, channels, skip).shape
    images = np.empty((len(files), *shape), np.uint8)
    unreadable = {}

    def decode_one(i: int):
        try:
            pixels = decode(files[i], channels, size or None)
        except DataError as e:
            if not skip:
                raise
            unreadable[i] = str(e)
            return
        check_same_size(files[i], pixels, shape)
        images[i] = pixels

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(decode_one, range(len(files)))
        try:
            for _ in tqdm(results, f"decode {split}", len(files), disable=None, leave=False):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    kept = np.delete(images, list(unreadable), 0) if unreadable else images
    return torch.from_numpy(kept), dict(sorted(unreadable.items()))


def _cache_key(splits: dict[str, FileList], size: int, channels: int, on_error: str) -> str:
    digest = hashlib.sha256(f"2 {size} {channels} {on_error}".encode())
    for split, files in splits.items():
        digest.update(split.encode())
        for i, path in enumerate(files):
            status = os.stat(path)
            digest.update(files.name(i))
            digest.update(f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_cache(path: Path, key: str) -> Loaded | None:
    """None if there is no cache, or it is damaged, or of other files or settings."""
    try:
        tensors, metadata = tensorfile.read(path)
    except CheckpointError:
        return None
    kinds = {name: (t.dtype, t.dim()) for name, t in tensors.items()}
    x, y = (torch.uint8, 4), (torch.int64, 1)
    if metadata.get("key") != key or kinds != {"train_x": x, "train_y": y, "test_x": x, "test_y": y}:
        return None
    return *_parts(tensors), metadata["skipped"]


def _write_cache(path: Path, key: str, tensors: dict[str, Tensor], skipped: dict[str, str]):
    try:
        tensorfile.save(path, tensors, {"key": key, "skipped": skipped})
    except (OSError, CheckpointError) as e:
        tqdm.write(f"note: images are not cached, {path.parent} can't be written ({e})", sys.stderr)
