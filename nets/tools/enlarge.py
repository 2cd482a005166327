"""Enlarge: scales a tree of small images up, to try nets that take large ones."""

from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from nets.data import tree
from nets.data.images import decode


def enlarge(src: Path, dst: Path, size: int, count: int) -> dict[str, int]:
    """Write `count` of src's training images, and a fifth as many test images, to dst as PNG.

    src and dst hold train/ and test/ with a folder for each class. Each class gives about equally
    many images, its first ones, scaled to size × size. Returns the number of images in each split.
    """
    splits, classes, _ = tree.scan(src)
    written: dict[str, int] = {}
    for split, files in splits.items():
        chosen = _balanced(files, count if split == "train" else max(len(classes), count // 5))
        written[split] = len(chosen)
        for i in tqdm(chosen, f"enlarge {split}", disable=None, leave=False):
            path = Path(files[i])
            to = dst / split / classes[files.y[i]] / f"{path.stem}.png"
            to.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(decode(path, 3, size)).save(to, compress_level=1)
    return written


def _balanced(files: tree.FileList, count: int) -> list[int]:
    """At most `count` indices of files: the first of each class, then the second of each, and so on."""
    rank = np.arange(len(files)) - np.searchsorted(files.y, files.y)  # the place within its class
    return np.lexsort((files.y, rank))[:count].tolist()
