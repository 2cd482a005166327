"""Enlarge: scales a tree of small images up, to try nets that take large ones."""

from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from nets.commands import cli
from nets.common.errors import UsageError
from nets.data import tree
from nets.data.pictures import decode


def enlarge(src: Path, dst: Path, size: int, count: int) -> dict[str, int]:
    """Write `count` of src's training images, and a fifth as many test images, to dst as PNG.

    src and dst hold train/ and test/ with a folder for each class. Each class gives about equally
    many images, its first ones, scaled to size × size. Returns the number of images in each split.
    """
    splits, classes = tree.scan(src)
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


def _balanced(files: tree.Files, count: int) -> list[int]:
    """At most `count` indices of files: the first of each class, then the second of each, and so on."""
    rank = np.arange(len(files)) - np.searchsorted(files.y, files.y)  # the place within its class
    return np.lexsort((files.y, rank))[:count].tolist()


def main():
    parser = cli.parser(__doc__)
    parser.add_argument("src", type=Path, metavar="SRC", help="holds train/ and test/ with a folder a class")
    parser.add_argument("dst", type=Path, metavar="DST", help="is made anew; must not be there yet")
    parser.add_argument("--size", type=int, default=256, help="rows and columns; default: %(default)s")
    parser.add_argument("--count", type=int, default=2000, help="training pictures; default: %(default)s")
    args = parser.parse_args()
    if args.size < 1 or args.count < 1:
        raise UsageError("--size and --count must be at least 1")
    if args.dst.exists():
        raise UsageError(f"{args.dst}: is there already")
    written = enlarge(args.src, args.dst, args.size, args.count)
    print(f"{args.dst}: " + ", ".join(f"{n} {split}" for split, n in written.items()) + " pictures")


if __name__ == "__main__":
    with cli.one_line_errors():
        main()
