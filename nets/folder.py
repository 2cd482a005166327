"""A folder a class: root/train/<class>/<picture>, root/test/<class>/<picture>.

Pictures are decoded once; the bytes are kept in root/.nets-cache.safetensors, which is made
anew when any file's name, size or time of change is another one.
"""

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from nets.checkpoint import whole
from nets.errors import DataError, nearest
from nets.pictures import decode, listed

CACHE = ".nets-cache.safetensors"


def load(root, size: int = 0, channels: int = 3):
    """Returns (train_x, train_y, test_x, test_y, class names); x uint8 (N, H, W, C), y int64.

    size: side to which pictures are scaled and cut; 0 where all have one size already.
    DataError names a folder or file that is missing, empty or damaged.
    """
    root = Path(root)
    splits, classes = scan(root)
    key = _fingerprint(root, splits, size, channels)
    tensors = _read_cache(root / CACHE, key)
    if tensors is None:
        tensors = {}
        for split, files in splits.items():
            paths = [p for group in files for p in group]
            tensors[f"{split}_x"] = _decode_all(paths, size, channels, split)
            labels = [label for label, group in enumerate(files) for _ in group]
            tensors[f"{split}_y"] = torch.tensor(labels)
        if tensors["train_x"].shape[1:] != tensors["test_x"].shape[1:]:
            raise DataError(f"{root}: pictures in train/ and test/ differ in size; set data.size")
        _write_cache(root / CACHE, key, tensors)
    return *(tensors[k] for k in ("train_x", "train_y", "test_x", "test_y")), classes


def scan(root: Path):
    """Find the pictures: ({split: [a class's files, ...]}, class names in label order)."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; point --data-root at the data")
    for split in ("train", "test"):
        if not (root / split).is_dir():
            raise DataError(f"{root}: has no {split}/ folder (expected train/ and test/)")
    classes = [p.name for p in sorted((root / "train").iterdir()) if _is_class(p)]
    if not classes:
        raise DataError(f"{root / 'train'}: has no class folders")
    if len(classes) == 1:
        raise DataError(f"{root / 'train'}: has one class; a classifier needs two or more")
    for name in classes:
        if not name.isprintable():  # nor is a name that isn't UTF-8
            raise DataError(f"{root / 'train'}: {name!r} is no name for a class")
    for p in sorted((root / "test").iterdir()):
        if _is_class(p) and p.name not in classes:
            raise DataError(f"{p}: class not in train/{nearest(p.name, classes)}")
    splits = {}
    for split in ("train", "test"):
        splits[split] = []
        for name in classes:
            if not (root / split / name).is_dir():
                raise DataError(f"{root / split}: class {name} is missing")
            files = listed(root / split / name)
            if not files:
                raise DataError(f"{root / split / name}: no pictures in this class folder")
            splits[split].append(files)
    return splits, tuple(classes)


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _decode_all(paths, size, channels, split) -> torch.Tensor:
    first = decode(paths[0], channels, size or None)
    out = np.empty((len(paths), *first.shape), np.uint8)

    def one(i):
        pixels = decode(paths[i], channels, size or None)
        if pixels.shape != first.shape:
            (h, w), (h0, w0) = pixels.shape[:2], first.shape[:2]
            raise DataError(
                f"{paths[i]}: {w} × {h} pixels, others {w0} × {h0}; set data.size to scale all"
            )
        out[i] = pixels

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        work = pool.map(one, range(len(paths)))
        try:
            for _ in tqdm(work, f"decode {split}", len(paths), disable=None, leave=False):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return torch.from_numpy(out)


def _fingerprint(root: Path, splits, size, channels) -> str:
    digest = hashlib.sha256(f"1 {size} {channels}".encode())
    for files in splits.values():
        for path in (p for group in files for p in group):
            status = path.stat()
            digest.update(os.fsencode(path.relative_to(root)))
            digest.update(f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_cache(path: Path, key: str):
    try:
        with safe_open(path, "pt") as f:
            if (f.metadata() or {}).get("key") != key:
                return None
            tensors = {name: f.get_tensor(name) for name in sorted(f.keys())}
    except (OSError, SafetensorError):
        return None  # none yet, or damaged: decode again
    kinds = [(name, t.dtype, t.dim()) for name, t in tensors.items()]
    x, y = (torch.uint8, 4), (torch.int64, 1)
    right = [("test_x", *x), ("test_y", *y), ("train_x", *x), ("train_y", *y)]
    return tensors if kinds == right else None


def _write_cache(path: Path, key: str, tensors):
    try:
        with whole(path) as part:
            save_file(tensors, part, {"key": key})
    except (OSError, SafetensorError) as e:
        tqdm.write(f"note: pictures are not cached, {path.parent} can't be written ({e})", sys.stderr)
