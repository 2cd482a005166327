"""The command `nets train`."""

from pathlib import Path

from nets.commands import cli
from nets.distributed.alive import watched
from nets.distributed.world import join
from nets.report.run_figures import Figures
from nets.training.run import Run

DETAILS = """Checkpoints, logs, figures and the result go to the folder DIR/NAME, where NAME is the config's.
On several processes:

    torchrun --nproc-per-node N -m nets train CONFIG"""


def parser():
    parser = cli.parser("train", DETAILS)
    cli.add_config(parser)
    cli.add_device(parser)
    parser.add_argument("--seed", type=int, help="random seed (default: the config's)")
    parser.add_argument("--out", default="runs", metavar="DIR", help="folder of all runs")
    cli.add_data_root(parser)
    parser.add_argument(
        "--resume", action="store_true", help="resume from the last checkpoint, or start if there is none"
    )
    parser.add_argument("--force", action="store_true", help="start anew and overwrite an earlier run")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    conf = cli.load_config(args, after=[] if args.seed is None else [f"seed={args.seed}"])
    with watched(join(args.device)) as world:
        run = Run.from_config(conf, world.device, Path(args.out) / conf.name, world, hooks=[Figures()])
        result = run.train(args.resume, args.force)
        if world.is_main and result is not None:
            print(result.line())
