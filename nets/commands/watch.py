"""The command `nets watch`."""

import sys
from pathlib import Path

from nets.commands import cli
from nets.common.errors import UsageError
from nets.report.watch import watch

DETAILS = "Only reads the run's files: the training process is not involved."


def parser():
    parser = cli.parser("watch", DETAILS)
    parser.add_argument("run", metavar="RUN", type=Path, help="a run's folder, such as runs/digits")
    parser.add_argument("--png", metavar="FILE", type=Path, help="draw the curves into this PNG file instead")
    parser.add_argument("--every", metavar="SECONDS", type=float, default=2.0, help="time between updates")
    parser.add_argument(
        "--once", action="store_true", help="show the curves once; without a terminal or --png always so"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if not 0.1 <= args.every <= 86400:
        raise UsageError(f"--every: must be from 0.1 to 86400 seconds, got {args.every:g}")
    if args.png and not args.png.parent.is_dir():
        raise UsageError(f"--png: {args.png.parent} is not a folder")
    watch(args.run, args.png, args.every, args.once or not (args.png or sys.stdout.isatty()))
