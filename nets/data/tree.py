"""A tree of pictures, a folder a class: root/train/<class>/…, and the same below test/ or val/."""

import os
from array import array
from pathlib import Path

import numpy as np

from nets.common.errors import DataError, nearest
from nets.data.images import EXTENSIONS


class FileList:
    """A split's picture files, class by class and sorted by name: files[i] is a path, y (N) the labels.

    All names are bytes in one array. A list of strings takes several times the memory, and as
    merely looking at a string writes to its count of references, every worker process would
    soon have a copy of its own.
    """

    def __init__(self, folder, names: np.ndarray, ends: np.ndarray, y: np.ndarray):
        self.folder, self.names, self.ends, self.y = str(folder), names, ends, y

    @staticmethod
    def from_groups(folder, groups) -> "FileList":
        """From each class's names, relative to folder."""
        names, ends, counts = bytearray(), array("q"), []
        for group in groups:
            for name in group:
                names += os.fsencode(name)
                ends.append(len(names))
            counts.append(len(group))
        y = np.repeat(np.arange(len(counts)), counts)
        return FileList(folder, np.frombuffer(names, np.uint8), np.frombuffer(ends, np.int64), y)

    def __len__(self):
        return len(self.ends)

    def name(self, i: int) -> bytes:
        return self.names[self.ends[i - 1] if i else 0 : self.ends[i]].tobytes()

    def __getitem__(self, i: int) -> str:
        if not 0 <= i < len(self):
            raise IndexError(i)
        return os.path.join(self.folder, os.fsdecode(self.name(i)))

    def without(self, rows) -> "FileList":
        """The same less the files at rows."""
        keep = np.ones(len(self), bool)
        keep[list(rows)] = False
        sizes = np.diff(self.ends, prepend=0)
        return FileList(self.folder, self.names[np.repeat(keep, sizes)], np.cumsum(sizes[keep]), self.y[keep])


def scan(root):
    """Find the pictures: ({"train": FileList, "test": FileList}, class names in label order)."""
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; point --data-root at the data")
    if not (root / "train").is_dir():
        raise DataError(f"{root}: has no train/ folder (expected train/ and test/ or val/)")
    tests = [root / name for name in ("test", "val") if (root / name).is_dir()]
    if not tests:
        raise DataError(f"{root}: has no test/ folder, nor val/ (expected train/ and one of them)")
    # ImageNet's own test/ has no labels: then val/ is what can be tested on
    test = next((p for p in tests if _classes(p)), tests[0])
    classes = _classes(root / "train")
    if not classes:
        raise DataError(f"{root / 'train'}: has no class folders")
    if len(classes) == 1:
        raise DataError(f"{root / 'train'}: has one class; a classifier needs two or more")
    for name in classes:
        if not name.isprintable():  # nor is a name that isn't UTF-8
            raise DataError(f"{root / 'train'}: {name!r} is no name for a class")
    for name in _classes(test):
        if name not in classes:
            raise DataError(f"{test / name}: class not in train/{nearest(name, classes)}")
    folders = {"train": root / "train", "test": test}
    return {k: FileList.from_groups(p, _groups(p, classes)) for k, p in folders.items()}, tuple(classes)


def _classes(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _groups(folder: Path, classes):
    """Yield each class's picture files."""
    for name in classes:
        if not (folder / name).is_dir():
            raise DataError(f"{folder}: class {name} is missing")
        files = sorted(_listed(folder, name))
        if not files:
            raise DataError(f"{folder / name}: no pictures in this class folder")
        yield files


def _listed(folder: Path, below: str):
    """Yield the picture files in a folder and below it, relative to `folder`."""
    with os.scandir(folder / below) as entries:
        for e in entries:
            name = f"{below}/{e.name}"
            if e.is_dir(follow_symlinks=False):
                yield from _listed(folder, name)
            elif os.path.splitext(e.name)[1].lower() in EXTENSIONS and e.is_file():
                yield name
