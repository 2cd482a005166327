"""The command `nets enlarge`."""

import os
from pathlib import Path

from nets.commands import cli
from nets.common.errors import UsageError
from nets.tools.enlarge import enlarge

DETAILS = """A net for large images can be tried on the result. The images are written as PNG: about the
same number from each class, its first ones, and a fifth as many test images as training images."""


def parser():
    parser = cli.parser("enlarge", DETAILS)
    parser.add_argument(
        "src", type=cli.path, metavar="SRC", help="holds train/ and test/, with a folder a class"
    )
    parser.add_argument("dst", type=cli.path, metavar="DST", help="new folder; must not exist")
    parser.add_argument("--size", type=cli.at_least(1), default=256, metavar="N", help="rows and columns")
    parser.add_argument("--count", type=cli.at_least(1), default=2000, metavar="N", help="training images")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    src, dst = Path(args.src), Path(args.dst)
    if os.path.lexists(dst):
        raise UsageError(f"{dst}: exists already")
    written = enlarge(src, dst, args.size, args.count)
    print(f"{dst}: " + ", ".join(f"{n} {split}" for split, n in written.items()) + " images")
