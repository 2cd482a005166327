"""The command `nets soak`."""

from nets.commands import cli
from nets.common import device
from nets.common.errors import Problem
from nets.tools.soak import grown, soak

DETAILS = """A run with tests and checkpoints. At its end the process's memory, open files and threads must be
what they were during its first steps."""


def parser():
    parser = cli.parser("soak", DETAILS)
    cli.add_config(parser)
    parser.add_argument(
        "--steps", type=cli.at_least(3), default=10_000, metavar="N", help="steps at least, in whole epochs"
    )
    cli.add_device(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    conf = cli.load_config(args, before=["log.every_steps=10"])
    steps, found = soak(conf, device.select_device(args.device), args.steps)
    print(f"{steps:,} steps    first 1,000  last 1,000")
    for name, (first, last) in found.items():
        print(f"{name:<15} {first:11,.1f} {last:11,.1f}")
    if grown(found):
        raise Problem(f"grown: {', '.join(grown(found))}")
