"""An image tree, one folder per class: root/train/<class>/…, and the same below test/ or val/."""

import os
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from nets.common.errors import DataError, nearest
from nets.data import left_out
from nets.data.images import EXTENSIONS
from nets.data.left_out import LeftOut


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


def scan(root) -> tuple[dict[str, FileList], tuple[str, ...], LeftOut]:
    """List the image files: ({"train": FileList, "test": FileList}, class names, what is left out).

    Labels follow the sorted class names of train/, which are in Unicode's form NFC: `café` is one class,
    however a file system spells it. DataError says what is missing or unexpected.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; set --data-root to the folder of the data")
    if not (root / "train").is_dir():
        raise DataError(f"{root}: has no train/ folder (expected train/ and test/ or val/)")
    tests = [root / name for name in ("test", "val") if (root / name).is_dir()]
    if not tests:
        raise DataError(f"{root}: has no test/ folder, nor val/ (expected train/ and one of them)")
    found = LeftOut()
    train = _class_folders(root / "train", found)
    if not train:
        raise DataError(f"{root / 'train'}: has no class folders")
    if len(train) == 1:
        raise DataError(f"{root / 'train'}: has one class; a classifier needs two or more")
    for name in train:
        if not name.isprintable():  # nor is a name that isn't UTF-8
            raise DataError(f"{root / 'train'}: {name!r} is not a printable class name")
    # ImageNet's test/ has no labels, and so no class folders: then val/ is the test split
    test = next((p for p in tests if _class_folders(p, LeftOut())), tests[0])
    tested = _class_folders(test, found)
    for name in tested:
        if name not in train:
            raise DataError(f"{test}: {_exact(name)}: class not in train/{nearest(name, train)}")
    folders = {"train": (root / "train", train), "test": (test, tested)}
    splits = {
        split: FileList.from_groups(folder, _files_by_class(folder, names, train, found))
        for split, (folder, names) in folders.items()
    }
    return splits, tuple(train), found


def _exact(name: str) -> str:
    """A quoted name. All that is not ASCII follows as escapes: different letters can look the same."""
    return f'"{name}"' if name.isascii() and name.isprintable() else f'"{name}" ({name!a})'


def _class_folders(folder: Path, found: LeftOut) -> dict[str, str]:
    """{class: its folder's name}, sorted by class. What else the folder holds is added to `found`."""
    names: dict[str, str] = {}
    for entry in _sorted_entries(folder):
        kind, path = _kind(entry), f"{folder.name}/{entry.name}"
        reason = left_out.hidden_or_system(entry.name)
        if reason or kind in ("file", left_out.SPECIAL):
            found.add(reason or (left_out.NO_CLASS if kind == "file" else kind), path)
        elif kind == left_out.BROKEN_LINK:
            raise DataError(f"{folder / entry.name}: a broken link, where a class folder is expected")
        else:
            name = unicodedata.normalize("NFC", entry.name)
            if name in names:
                both = f"{names[name]!a} and {entry.name!a}"
                raise DataError(f"{folder}: the folders {both} have the same name, in two Unicode forms")
            names[name] = entry.name
    return dict(sorted(names.items()))


def _files_by_class(
    folder: Path, names: dict[str, str], classes: Iterable[str], found: LeftOut
) -> Iterator[list[str]]:
    """Yield each class's image files, sorted, relative to `folder`. names: {class: its folder's name}."""
    for name in classes:
        if name not in names:
            raise DataError(f"{folder}: class {name} is missing")
        files = sorted(_image_files(folder, names[name], found))
        if not files:
            endings = " ".join(sorted(EXTENSIONS))
            raise DataError(f"{folder / names[name]}: no images in this class folder (endings: {endings})")
        yield files


def _image_files(folder: Path, subfolder: str, found: LeftOut) -> Iterator[str]:
    """Yield the image files in folder/subfolder and below, relative to `folder`.

    Linked folders are left out: they can lead to another class, or back up the tree.
    """
    waiting = [subfolder]
    while waiting:
        inside = waiting.pop()
        for entry in _sorted_entries(folder / inside):
            name, kind = f"{inside}/{entry.name}", _kind(entry)
            reason = left_out.hidden_or_system(entry.name)
            if not reason and kind == "folder":
                if entry.is_symlink():
                    found.add(left_out.LINKED_FOLDER, f"{folder.name}/{name}")
                else:
                    waiting.append(name)
            elif not reason and kind == "file" and os.path.splitext(name)[1].lower() in EXTENSIONS:
                yield name
            elif not reason and kind == "file":
                found.add_ending(f"{folder.name}/{name}")
            else:
                found.add(reason or kind, f"{folder.name}/{name}")


def _sorted_entries(folder: Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda e: e.name)


def _kind(entry: os.DirEntry) -> str:
    """Is it a "file" or a "folder", also at the end of a link; else why it is neither."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError:  # a loop of links
        pass
    return left_out.SPECIAL if os.path.exists(entry.path) else left_out.BROKEN_LINK
