"""The command `nets distributed-bench`."""

from nets.commands import cli
from nets.distributed.alive import watched
from nets.distributed.measure import report
from nets.distributed.world import join

DETAILS = """    torchrun --nproc-per-node 2 -m nets distributed-bench

First times sums of several sizes, and fits the bandwidth and latency of `nets distributed-plan` to
them. Then times a step of a dense net without sums, with sums during backward, and with sums after it,
beside the model's prediction. Every time is the median of the rounds, of the slowest process."""


def parser():
    parser = cli.parser("distributed-bench", DETAILS)
    cli.add_device(parser)
    add = parser.add_argument
    add("--width", type=cli.at_least(1), default=1024, metavar="N", help="inputs and outputs of each layer")
    add("--depth", type=cli.at_least(1), default=8, metavar="N", help="layers")
    add("--batch", type=cli.at_least(1), nargs="+", default=[64, 256, 1024], metavar="N",
        help="samples in each process's batch, a row of the table each (default: 64 256 1024)")  # fmt: skip
    add("--mb", type=float, default=4.0, help="MB of gradients in a bucket, which is summed at once")
    add("--rounds", type=cli.at_least(1), default=20, metavar="N", help="repetitions of each measurement")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    with watched(join(args.device)) as world:
        text = report(world, args.width, args.depth, args.batch, args.mb, args.rounds)
        if world.first:
            print(text)
