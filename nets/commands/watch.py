"""The command `nets watch`."""

import sys
from pathlib import Path

from nets.commands import cli
from nets.report.watch import watch

DETAILS = "Only reads the run's files: the training process is not involved."


def parser():
    parser = cli.parser("watch", DETAILS)
    parser.add_argument("run", metavar="RUN", type=cli.path, help="a run's folder, such as runs/digits")
    parser.add_argument(
        "--png", metavar="FILE", type=cli.new_file, help="draw the curves into this PNG file instead"
    )
    parser.add_argument(
        "--every", metavar="SECONDS", type=cli.between(0.1, 86400), default=2.0, help="time between updates"
    )
    parser.add_argument(
        "--once", action="store_true", help="show the curves once; without a terminal or --png always so"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    png = Path(args.png) if args.png else None
    watch(Path(args.run), png, args.every, args.once or not (png or sys.stdout.isatty()))
