"""The command `nets summary`."""

from nets.commands import cli
from nets.report import summary


def parser():
    parser = cli.parser("summary")
    cli.add_config(parser)
    parser.add_argument("--batch", type=cli.at_least(1), default=1, metavar="N", help="samples in a batch")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    print(summary.table(summary.of(cli.load_config(args), args.batch)))
