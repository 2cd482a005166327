"""An image tree, one folder per class: root/train/<class>/…, and the same below test/ or val/."""

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from nets.common.errors import DataError, nearest
from nets.data.images import EXTENSIONS


class FileList:
    """A split's image files, by class and then by name: files[i] is a path, y int64 (N) the labels.

    The names are the bytes of one array. A list of strings would take several times the memory.
    Also, reading a string writes its reference count, so each worker process would soon hold a
    copy of the list.
    """

    def __init__(self, folder, names: np.ndarray, ends: np.ndarray, y: np.ndarray):
        """names: uint8, all names joined. ends: int64 (N), where each name ends in it."""
        self.folder, self.names, self.ends, self.y = str(folder), names, ends, y

    @staticmethod
    def from_groups(folder, groups: Iterable[Sequence[str]]) -> "FileList":
        """From the names of each class's files, relative to folder; class k is the k-th group."""
        names, ends, counts = bytearray(), array("q"), []
        for group in groups:
            for name in group:
                names += os.fsencode(name)
                ends.append(len(names))
            counts.append(len(group))
        y = np.repeat(np.arange(len(counts)), counts)
        return FileList(folder, np.frombuffer(names, np.uint8), np.frombuffer(ends, np.int64), y)

    def __len__(self) -> int:
        return len(self.ends)

    def name(self, i: int) -> bytes:
        """The name of file i, relative to the folder."""
        return self.names[self.ends[i - 1] if i else 0 : self.ends[i]].tobytes()

    def __getitem__(self, i: int) -> str:
        if not 0 <= i < len(self):
            raise IndexError(i)
        return os.path.join(self.folder, os.fsdecode(self.name(i)))

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def without(self, indices: Iterable[int]) -> "FileList":
        """A list without the files at these indices."""
        keep = np.ones(len(self), bool)
        keep[list(indices)] = False
        sizes = np.diff(self.ends, prepend=0)
        return FileList(self.folder, self.names[np.repeat(keep, sizes)], np.cumsum(sizes[keep]), self.y[keep])


def scan(root) -> tuple[dict[str, FileList], tuple[str, ...]]:
    """List the image files: ({"train": FileList, "test": FileList}, class names in label order).

    Labels follow the sorted class names of train/. DataError says what is missing or unexpected.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; set --data-root to the folder of the data")
    if not (root / "train").is_dir():
        raise DataError(f"{root}: has no train/ folder (expected train/ and test/ or val/)")
    tests = [root / name for name in ("test", "val") if (root / name).is_dir()]
    if not tests:
        raise DataError(f"{root}: has no test/ folder, nor val/ (expected train/ and one of them)")
    # ImageNet's test/ has no labels, and so no class folders: then val/ is the test split
    test = next((p for p in tests if _class_folders(p)), tests[0])
    classes = _class_folders(root / "train")
    if not classes:
        raise DataError(f"{root / 'train'}: has no class folders")
    if len(classes) == 1:
        raise DataError(f"{root / 'train'}: has one class; a classifier needs two or more")
    for name in classes:
        if not name.isprintable():  # nor is a name that isn't UTF-8
            raise DataError(f"{root / 'train'}: {name!r} is not a printable class name")
    for name in _class_folders(test):
        if name not in classes:
            raise DataError(f"{test / name}: class not in train/{nearest(name, classes)}")
    folders = {"train": root / "train", "test": test}
    splits = {k: FileList.from_groups(p, _files_by_class(p, classes)) for k, p in folders.items()}
    return splits, tuple(classes)


def _class_folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _files_by_class(folder: Path, classes: Iterable[str]) -> Iterator[list[str]]:
    """Yield each class's image files, sorted, relative to `folder`."""
    for name in classes:
        if not (folder / name).is_dir():
            raise DataError(f"{folder}: class {name} is missing")
        files = sorted(_image_files(folder, name))
        if not files:
            raise DataError(f"{folder / name}: no images in this class folder")
        yield files


def _image_files(folder: Path, subfolder: str) -> Iterator[str]:
    """Yield the image files in folder/subfolder and below, relative to `folder`."""
    with os.scandir(folder / subfolder) as entries:
        for e in entries:
            name = f"{subfolder}/{e.name}"
            if e.is_dir(follow_symlinks=False):
                yield from _image_files(folder, name)
            elif os.path.splitext(e.name)[1].lower() in EXTENSIONS and e.is_file():
                yield name
