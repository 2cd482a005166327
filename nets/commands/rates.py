"""The command `nets rates`."""

from nets.bench.rates import table
from nets.commands import cli
from nets.common.device import keep_freed_memory

DETAILS = """Forward, dx and dw, by this project's kernels and by the library's. Work is counted by the
definition of a convolution, not by the multiplications that a kernel does."""


def parser():
    parser = cli.parser("rates", DETAILS)
    cli.add_config(parser, default="cifar10")
    parser.add_argument("--batch", type=cli.at_least(1), default=500, metavar="N", help="samples in a batch")
    parser.add_argument(
        "--times", type=cli.at_least(1), default=5, metavar="N", help="runs of which the median is printed"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    keep_freed_memory()
    print(table(cli.load_config(args), args.batch, args.times))
