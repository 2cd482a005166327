"""A tree of pictures in memory: decoded once, and kept as bytes.

They are cached in root/.nets-cache.safetensors, which is made anew when any file's name, size
or time of change is another one.
"""

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from nets.common import tensorfile
from nets.common.errors import CheckpointError, DataError
from nets.data.pictures import decode
from nets.data.tree import Files

CACHE = ".nets-cache.safetensors"


def load(root, splits: dict[str, Files], size: int = 0, channels: int = 3, on_error: str = "stop"):
    """Returns (train_x, train_y, test_x, test_y, skipped); x uint8 (N, H, W, C), y int64.

    size: side to which pictures are scaled and cut; 0 where all have one size already.
    on_error: "skip" leaves out files that can't be read: skipped is {path: why}. DataError
    names one that is damaged otherwise, or of another size.
    """
    root = Path(root)
    key = _fingerprint(splits, size, channels, on_error)
    cached = _read_cache(root / CACHE, key)
    if cached is not None:
        return cached
    tensors, skipped = {}, {}
    for split, files in splits.items():
        x, bad = _decode_all(files, size, channels, split, on_error == "skip")
        lost = np.setdiff1d(files.y, files.without(bad).y)
        if len(lost):
            raise DataError(f"{next(iter(bad.values()))}; nor can any other of its class")
        tensors[f"{split}_x"] = x
        tensors[f"{split}_y"] = torch.from_numpy(files.without(bad).y)
        skipped |= {files[i]: why for i, why in bad.items()}
    if tensors["train_x"].shape[1:] != tensors["test_x"].shape[1:]:
        raise DataError(f"{root}: pictures in train/ and test/ differ in size; set data.size")
    _write_cache(root / CACHE, key, tensors, skipped)
    return *(tensors[k] for k in ("train_x", "train_y", "test_x", "test_y")), skipped


def same_size(path, pixels, shape):
    """DataError unless the pixels have the shape of the others."""
    if pixels.shape != shape:
        (h, w), (h0, w0) = pixels.shape[:2], shape[:2]
        raise DataError(f"{path}: {w} × {h} pixels, others {w0} × {h0}; set data.size to scale all")


def first(files: Files, size, channels, skip: bool) -> np.ndarray:
    """The first picture that can be read: its shape is that of all."""
    for path in files:
        try:
            return decode(path, channels, size or None)
        except DataError as e:
            if not skip:
                raise
            problem = e
    raise problem


def _decode_all(files: Files, size, channels, split, skip: bool):
    """Returns (pictures, {row: why} of those that can't be read and are left out)."""
    shape = first(files, size, channels, skip).shape
    out = np.empty((len(files), *shape), np.uint8)
    bad = {}

    def one(i):
        try:
            pixels = decode(files[i], channels, size or None)
        except DataError as e:
            if not skip:
                raise
            bad[i] = str(e)
            return
        same_size(files[i], pixels, shape)
        out[i] = pixels

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        work = pool.map(one, range(len(files)))
        try:
            for _ in tqdm(work, f"decode {split}", len(files), disable=None, leave=False):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return torch.from_numpy(np.delete(out, list(bad), 0) if bad else out), dict(sorted(bad.items()))


def _fingerprint(splits, size, channels, on_error) -> str:
    digest = hashlib.sha256(f"2 {size} {channels} {on_error}".encode())
    for split, files in splits.items():
        digest.update(split.encode())
        for i, path in enumerate(files):
            status = os.stat(path)
            digest.update(files.name(i))
            digest.update(f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_cache(path: Path, key: str):
    try:
        tensors, words = tensorfile.read(path)
    except CheckpointError:
        return None  # none yet, or damaged: decode again
    kinds = {name: (t.dtype, t.dim()) for name, t in tensors.items()}
    x, y = (torch.uint8, 4), (torch.int64, 1)
    if words.get("key") != key or kinds != {"train_x": x, "train_y": y, "test_x": x, "test_y": y}:
        return None
    return *(tensors[k] for k in ("train_x", "train_y", "test_x", "test_y")), words["skipped"]


def _write_cache(path: Path, key: str, tensors, skipped):
    try:
        tensorfile.save(path, tensors, {"key": key, "skipped": skipped})
    except (OSError, CheckpointError) as e:
        tqdm.write(f"note: pictures are not cached, {path.parent} can't be written ({e})", sys.stderr)
