"""The command `nets survive`."""

import tempfile
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from nets.commands import cli
from nets.common import device
from nets.common.errors import CheckpointError
from nets.tools import every_kill
from nets.tools.survive import SETTINGS, survive

DETAILS = f"""One run trains undisturbed. More runs of the same config are killed (SIGKILL), some at random
steps and some while a checkpoint is written, and are resumed. Weights, momentum, statistics, random
numbers, log and figures must equal the first run's to the last bit. Each run has
{", ".join(SETTINGS)}.

A short run is also killed after every call that changes a file in its folder, resumed, and killed again after
every such call, N times in all: {", ".join(every_kill.SETTINGS)}."""


def parser():
    parser = cli.parser("survive", DETAILS)
    cli.add_config(parser)
    add = parser.add_argument
    add("--kills", type=cli.at_least(0), default=50, metavar="N", help="kills at random steps")
    add("--saves", type=cli.at_least(0), default=20, metavar="N", help="kills while a checkpoint is written")
    add("--alone", type=cli.at_least(0), default=4, metavar="N", help="further undisturbed runs")
    add("--depth", type=cli.at_least(0), default=2, metavar="N", help="kills in a row, after every call")
    cli.add_device(parser)
    cli.add_seed(parser, "random seed of the kills' times", 0)
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    conf = cli.load_config(args, before=SETTINGS)
    short = cli.load_config(args, before=every_kill.SETTINGS)
    where, total = device.select_device(args.device), args.kills + args.saves + args.alone
    bad, count = [], 0
    with tempfile.TemporaryDirectory() as folder:
        runs = survive(conf, where, Path(folder), args.kills, args.saves, args.alone, args.seed)
        kills = every_kill.every_kill(short, where, Path(folder) / "short", args.depth)
        for what, different in tqdm(chain(runs, kills), total=None if args.depth else total, disable=None):
            count += 1
            if different:
                bad.append(what)
                tqdm.write(f"{what}: different: {', '.join(different)}")
    print(f"{count - len(bad)} of {count} the same to the last bit")
    if bad:
        raise CheckpointError(f"{len(bad)} runs ended differently")
