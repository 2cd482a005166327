"""The command `nets train`."""

import sys
import time
from pathlib import Path

from nets.commands import cli, streams
from nets.distributed.alive import watched
from nets.distributed.world import join
from nets.report.run_figures import Figures
from nets.training.hooks import Hook
from nets.training.run import Run

DETAILS = """Checkpoints, logs, figures and the result go to the folder DIR/NAME, where NAME is the config's.
On several processes:

    torchrun --nproc-per-node N -m nets train CONFIG"""
OUTPUT_SCORES = {"loss": "loss {:.4g}", "largest_error": "largest error {:.3f}"}
OUTPUT_SCORES["val_largest_error"] = "largest error in validation {:.3f}"
SCORES = {"loss": "loss {:.4g}", "train_top1": "training top-1 {:.1%}", "top1": "test top-1 {:.1%}"}
SCORES["val_top1"] = "validation top-1 {:.1%}"


def parser():
    parser = cli.parser("train", DETAILS)
    cli.add_config(parser)
    cli.add_device(parser)
    cli.add_seed(parser, "random seed (default: the config's)")
    parser.add_argument("--out", type=cli.path, default="runs", metavar="DIR", help="folder of all runs")
    cli.add_data_root(parser)
    parser.add_argument(
        "--resume", action="store_true", help="resume from the last checkpoint, or start if there is none"
    )
    parser.add_argument(
        "--resume=inexact", action="store_const", const="inexact", dest="resume",
        help="resume also where the run can't end bit-identical: with another number of threads or processes,"
        " another version of torch, another processor or other kernels",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="start anew and overwrite an earlier run")
    return parser


class EpochLines(Hook):
    """Prints a line after each epoch, 100 at most, where the progress bar isn't seen: in a pipe or a file."""

    def __init__(self):
        self.begin = time.perf_counter()
        self.silent = all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))

    def after_epoch(self, run, facts):
        epoch, epochs = run.progress.epoch, run.config.train.epochs
        due = epoch == epochs or epoch % -(-epochs // 100) == 0
        if self.silent or not due or not run.world.is_main:
            return
        scores = SCORES if run.data.classes else OUTPUT_SCORES
        words = [text.format(facts[name]) for name, text in scores.items() if name in facts]
        seconds = time.perf_counter() - self.begin
        try:
            print(f"epoch {epoch} of {epochs}: {', '.join(words)}, {seconds:,.0f} s", flush=True)
        except BrokenPipeError:  # the run is worth more than its lines
            streams.discard_output()
            self.silent = True


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    conf = cli.load_config(args, after=[] if args.seed is None else [f"seed={args.seed}"])
    with watched(join(args.device, conf.distributed.connect_seconds)) as world:
        run = Run.from_config(
            conf, world.device, Path(args.out) / conf.name, world, hooks=[Figures(), EpochLines()]
        )
        result = run.train(args.resume, args.force)
        if world.is_main and result is not None:
            print(result.line())
