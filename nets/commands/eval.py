"""The command `nets eval`."""

import os
from pathlib import Path

from nets.commands import cli
from nets.common import device
from nets.common.errors import UsageError, printable
from nets.convert.pretrained import PREFIX
from nets.report import figure
from nets.report.run_figures import attempt
from nets.training import predict
from nets.training.pretrained import Pretrained

DETAILS = """Without images: top-1 and top-5 accuracy on the test set, every class, and the pairs most often
confused. With images: the five best guesses for each, also drawn as guesses.png in the run's folder.

RUN can also be a model of torchvision with its published weights, such as torchvision:alexnet. Its
figure goes to runs/torchvision-alexnet."""
DRAWN = 20  # images at most in guesses.png: more take long to draw and are too small to see


def parser():
    parser = cli.parser("eval", DETAILS)
    parser.add_argument(
        "run", type=cli.path, metavar="RUN", help="a run's folder (runs/digits), or torchvision:MODEL"
    )
    parser.add_argument(
        "images",
        nargs="*",
        type=cli.path,
        metavar="IMAGE",
        help="image files of any size (default: the test set)",
    )
    cli.add_data_root(parser)
    cli.add_device(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument(
        "--best",
        action="store_true",
        help="use the checkpoint with the best validation score, not the last one",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    where = device.select_device(args.device)
    if os.path.isfile(args.run):
        raise UsageError(f"{args.run}: is a file; name the run's folder first: nets eval RUN IMAGE")
    if args.run.startswith(PREFIX):
        trained = Pretrained(args.run, where)
    else:
        trained = predict.Trained(args.run, where, args.best)
    if args.images:
        _classify(trained, args.images, args.json)
    else:
        show = predict.as_json if args.json else predict.describe
        print(show(trained.test(args.data_root), trained.classes))


def _classify(trained, paths: list[str], json: bool):
    """Print the best guesses for each image, and draw those of the first ones."""
    pixels, z = trained.guess(paths)
    paths = [printable(path) for path in paths]
    if json:
        print(predict.guesses_json(paths, z, trained.classes))
    else:
        for path, logits in zip(paths, z):
            print(predict.bars(path, logits, trained.classes))
    attempt(
        trained.run / "guesses.png",
        lambda file: _draw(file, pixels[:DRAWN], z[:DRAWN], trained.classes, paths[:DRAWN]),
    )


def _draw(file: Path, pixels, z, classes, paths):
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.top5(file, pixels, z, classes, captions=paths)
