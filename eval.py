"""Test a finished run again, or ask it about pictures: python eval.py RUN [IMAGE ...].

RUN may also be a model of torchvision with its published weights, such as torchvision:alexnet. The
guesses are drawn as guesses.png in the run's folder, or in runs/torchvision-alexnet.
"""

from nets.commands import cli
from nets.common import device
from nets.convert import pretrained
from nets.report import figure
from nets.training import predict


def main():
    parser = cli.parser(__doc__)
    parser.add_argument("run", metavar="RUN", help="a run's folder (runs/digits), or torchvision:MODEL")
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="picture files of any size")
    parser.add_argument("--data-root", metavar="DIR", help="where the data set lies")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--best", action="store_true", help="the net as it was when it scored best, not as it was last"
    )
    args = parser.parse_args()
    where = device.pick(args.device)
    if args.run.startswith(pretrained.PREFIX):
        trained = pretrained.Pretrained(args.run, where)
    else:
        trained = predict.Trained(args.run, where, args.best)
    if not args.images:
        result = trained.test(args.data_root)
        show = predict.as_json if args.json else predict.describe
        print(show(result, trained.classes))
        return
    pixels, z = trained.guess(args.images)
    if args.json:
        print(predict.guesses_json(args.images, z, trained.classes))
    else:
        for path, logits in zip(args.images, z):
            print(predict.bars(path, logits, trained.classes))
    trained.run.mkdir(parents=True, exist_ok=True)
    # a figure of a thousand pictures is slow to draw and nothing to look at
    shown = slice(0, 20)
    figure.top5(
        trained.run / "guesses.png", pixels[shown], z[shown], trained.classes, captions=args.images[shown]
    )


if __name__ == "__main__":
    with cli.one_line_errors():
        main()
