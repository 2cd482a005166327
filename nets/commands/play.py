"""The command `nets play`."""

import webbrowser
from pathlib import Path

from nets.commands import cli
from nets.commands.export import exported
from nets.common.files import write_text
from nets.play.bundle import page

DETAILS = """The page is one file that works without a server and makes no request. Its scenes are a neuron,
the world's smallest net, two neurons with cross connections, and a net that reads digits. --run
shows a net of your own in the last scene."""


def parser():
    parser = cli.parser("play", DETAILS)
    parser.add_argument(
        "--out", type=cli.path, default="runs/play/index.html", metavar="FILE", help="file to write"
    )
    parser.add_argument(
        "--run",
        type=cli.path,
        metavar="RUN",
        help="folder of a run whose net to show (default: the digits net)",
    )
    parser.add_argument(
        "--no-open", action="store_true", help="write the page, but don't open it in a browser"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    out = Path(args.out)
    text = page(exported(args.run) if args.run else None)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    print(f"wrote {out}, {len(text.encode()) / 1e6:.2f} MB")
    if not args.no_open and not webbrowser.open(out.resolve().as_uri()):
        print("no browser found; open the file in one")
