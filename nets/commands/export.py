"""The command `nets export`."""

import json
from pathlib import Path

import torch

from nets.commands import cli
from nets.common.errors import UsageError
from nets.common.files import write_text
from nets.layers.containers import Sequential
from nets.play.weights import Exported, to_json
from nets.training.predict import Trained

DETAILS = """The page of `nets play` loads the file: its last scene then shows this net. Only the layers
that the page has can be exported; the error names the others."""


def parser():
    parser = cli.parser("export", DETAILS)
    parser.add_argument("run", type=cli.path, metavar="RUN", help="a run's folder, such as runs/digits")
    parser.add_argument(
        "--out", type=cli.path, metavar="FILE", help="file to write (default: net.json in the run's folder)"
    )
    parser.add_argument(
        "--best", action="store_true", help="use the checkpoint with the best validation score"
    )
    return parser


def exported(run: str, best: bool = False) -> dict:
    """A finished run's net for the page. UsageError if the page can't show it."""
    trained = Trained(Path(run), torch.device("cpu"), best)
    if len(trained.shape) != 3 or not trained.classes:
        raise UsageError(f"{run}: this net doesn't classify images")
    if not isinstance(trained.net, Sequential):
        raise UsageError(f"{run}: its net is a {type(trained.net).__name__}, not a Sequential")
    assert trained.mean is not None and trained.std is not None
    net = Exported(trained.net, trained.classes, trained.shape, trained.mean, trained.std)
    return to_json(net, trained.config.name or Path(run).name)


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    out = Path(args.out) if args.out else Path(args.run) / "net.json"
    text = json.dumps(exported(args.run, args.best)) + "\n"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    print(f"wrote {out}, {len(text) / 1e6:.2f} MB")
