"""The command `nets same-curve`."""

from nets.bench.same_curve import compare
from nets.commands import cli
from nets.common import device
from nets.common.errors import MismatchError
from nets.training.run import Run

DETAILS = """Both sides start from the same weights and see the same batches, with dropout off. The command
fails when two losses differ by more than rounding explains."""


def parser():
    parser = cli.parser("same-curve", DETAILS)
    cli.add_config(parser)
    parser.add_argument("--steps", type=cli.at_least(1), default=20, metavar="N", help="steps to compare")
    cli.add_device(parser)
    cli.add_data_root(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    where = device.select_device(args.device)
    run = Run.from_config(cli.load_config(args), where)
    print("step  by hand   autograd  relative difference")
    for i, (ours, theirs, apart, ok) in enumerate(compare(run, args.steps), start=1):
        print(f"{i:4}  {ours:8.5f}  {theirs:8.5f}  {apart:.1e}", flush=True)
        if not ok:
            raise MismatchError(f"the losses of step {i} differ by {apart:.1e}")
