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
from nets.data.images import check_same_size, decode_for, first_readable
from nets.data.tree import FileList

CACHE = ".nets-cache.safetensors"
Loaded = tuple[Tensor, Tensor, Tensor, Tensor, dict[str, str]]


def load(splits: dict[str, FileList], config) -> Loaded:
    """Decode a tree, or read its cache: (train_x, train_y, test_x, test_y, skipped).

    x uint8 (N, H, W, C), y int64 (N), skipped {path: reason}.
    config.size: the side to which images are scaled and cropped; 0 where all have the same size.
    config.on_error: "skip" leaves unreadable files out and lists them in skipped; "stop" raises.
    DataError names an unreadable file, an image of another size, or a class without images.
    """
    root = Path(config.root)
    key = _cache_key(splits, config)
    cached = _read_cache(root / CACHE, key, splits, config)
    if cached is not None:
        return cached
    tensors, skipped = {}, {}
    for split, files in splits.items():
        x, unreadable = _decode_all(files, config, split)
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


def _decode_all(files: FileList, config, split: str) -> tuple[Tensor, dict[int, str]]:
    """(images uint8 (N − unreadable, H, W, C), {index: reason} of unreadable files)."""
    shape = first_readable(files, config).shape
    images = np.empty((len(files), *shape), np.uint8)
    unreadable = {}

    def decode_one(i: int):
        try:
            pixels = decode_for(config, files[i])
        except DataError as e:
            if config.on_error == "stop":
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


def _cache_key(splits: dict[str, FileList], config) -> str:
    settings = f"3 {config.size} {config.channels} {config.on_error} {config.max_megapixels}"
    digest = hashlib.sha256(settings.encode())
    for split, files in splits.items():
        digest.update(split.encode())
        for i, path in enumerate(files):
            status = os.stat(path)
            digest.update(files.name(i))
            digest.update(f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_cache(path: Path, key: str, splits: dict[str, FileList], config) -> Loaded | None:
    """None if there is no cache, or it is of other files or settings, or doesn't hold what it should."""
    try:
        tensors, metadata = tensorfile.read(path)
    except CheckpointError:
        return None
    skipped = metadata.get("skipped")
    if metadata.get("key") != key or not isinstance(skipped, dict):
        return None
    return (*_parts(tensors), skipped) if _fits(tensors, skipped, splits, config) else None


def _fits(tensors: dict[str, Tensor], skipped: dict, splits: dict[str, FileList], config) -> bool:
    """Are these the images and labels of the splits, but for the skipped files?"""
    if tensors.keys() != {f"{split}_{part}" for split in splits for part in "xy"}:
        return False
    if tensors["train_x"].dim() != 4:
        return False
    shape = height, width, channels = tensors["train_x"].shape[1:]
    if 0 in shape or channels != config.channels or (config.size and {height, width} != {config.size}):
        return False
    left = {path for path, reason in skipped.items() if isinstance(reason, str)}
    for split, files in splits.items():
        bad = {i: path for i, path in enumerate(files) if path in left} if left else {}
        y = torch.from_numpy(files.without(bad).y)
        x, saved = tensors[f"{split}_x"], tensors[f"{split}_y"]
        every_class = len(y.unique()) == int(files.y[-1]) + 1
        if not every_class or x.dtype != torch.uint8 or x.shape != (len(y), *shape):
            return False
        if saved.dtype != y.dtype or not torch.equal(saved, y):
            return False
        left -= {*bad.values()}
    return not left and all(isinstance(reason, str) for reason in skipped.values())


def _write_cache(path: Path, key: str, tensors: dict[str, Tensor], skipped: dict[str, str]):
    try:
        tensorfile.save(path, tensors, {"key": key, "skipped": skipped})
    except (OSError, CheckpointError) as e:
        tqdm.write(f"note: images are not cached, {path.parent} can't be written ({e})", sys.stderr)
