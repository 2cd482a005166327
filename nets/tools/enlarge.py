"""Scale a tree of small pictures up to a tree of larger ones, to try a net for large pictures."""

from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from nets.data import tree
from nets.data.pictures import decode


def enlarge(src: Path, dst: Path, size: int, count: int) -> dict[str, int]:
    """Write `count` of src's training pictures, and a fifth as many test pictures, to dst as PNG.

    src and dst hold train/ and test/ with a folder a class. Of every class about equally many are
    taken, from its first on, and scaled to size × size. Returns how many went to each split.
    """
    splits, classes = tree.scan(src)
    written = {}
    for split, files in splits.items():
        chosen = _in_turn(files, count if split == "train" else max(len(classes), count // 5))
        written[split] = len(chosen)
        for i in tqdm(chosen, f"enlarge {split}", disable=None, leave=False):
            path = Path(files[i])
            to = dst / split / classes[files.y[i]] / f"{path.stem}.png"
            to.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(decode(path, 3, size)).save(to, compress_level=1)
    return written


def _in_turn(files: tree.Files, count: int) -> list[int]:
    """`count` of them at most, by number: one of each class, then another of each."""
    rank = np.arange(len(files)) - np.searchsorted(files.y, files.y)  # within the class
    return np.lexsort((files.y, rank))[:count].tolist()
