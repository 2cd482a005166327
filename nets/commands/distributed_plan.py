"""The command `nets distributed-plan`."""

from pathlib import Path

from nets.commands import cli
from nets.distributed.plan import Machine, billion
from nets.report import plan as figures
from nets.training import config

DETAILS = """A model of a step with a fixed global batch, for three speeds of the GPUs' links, and for
cifar10, alexnet and a dense net with a billion weights. The formulas are in nets/distributed/plan.py."""
LINKS = {  # bytes a second, seconds a hop
    "NVLink, 450 GB/s": (450e9, 3e-6),
    "400 Gb/s": (50e9, 10e-6),
    "25 Gb/s": (3.1e9, 30e-6),
}


def parser():
    parser = cli.parser("distributed-plan", DETAILS)
    parser.add_argument(
        "--rate",
        type=cli.between(1, 1e30),
        default=400e12,
        metavar="FLOPS",
        help="FLOP/s that a GPU reaches (default: %(default)g)",
    )
    parser.add_argument(
        "--plot", metavar="FILE", type=cli.new_file, help="draw the speedups into this PNG file"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    machines = {name: Machine(rate=args.rate, link=link, hop=hop) for name, (link, hop) in LINKS.items()}
    configs = (config.load(name) for name in ("cifar10", "alexnet"))
    cifar10, alexnet = map(figures.work, configs)
    plans = [(cifar10, 2000), (alexnet, 128), (alexnet, 8192), (billion(), 65536)]
    for work, batch in plans:
        print(f"{work.name}: {work.weights:,.0f} weights, batches of {batch:,}")
        print(figures.table(work, batch, machines), end="\n\n")
    if args.plot:
        figures.draw(Path(args.plot), plans, machines)
