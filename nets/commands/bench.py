"""The command `nets bench`."""

import json
from pathlib import Path

import torch

from nets.bench import forms, text
from nets.bench.race import race
from nets.bench.scaling import scaling
from nets.commands import cli
from nets.common import device, files
from nets.common.errors import UsageError
from nets.data import datasets as data
from nets.report import bench as figures
from nets.training import validate
from nets.training.make import make_loss, make_net, make_optimizer

DETAILS = """Each form runs in a process of its own, and they take turns. Forms: manual and autograd (the net
in torch.nn), which run eagerly; -compiled, by torch.compile; on CUDA also -graph, as a captured graph,
and -compiled-graph, both."""


def parser():
    parser = cli.parser("bench", DETAILS)
    cli.add_config(parser)
    add = parser.add_argument
    cli.add_device(parser)
    add("--dtype", choices=("float64", "float32", "bfloat16"), help="number type (default: the config's)")
    add("--batch", type=cli.at_least(1), metavar="N", help="samples in a batch (default: the config's)")
    add("--forms", default="", metavar="A,B",
        help=f"which forms, of {', '.join(forms.NAMES)} (default: all that the device runs)")  # fmt: skip
    add("--rounds", type=cli.at_least(1), default=15, metavar="N", help="turns of each form")
    add("--steps", type=cli.at_least(0), default=0, metavar="N",
        help="steps in a turn (default: 0, as many as the fastest form does in 0.5 s)")  # fmt: skip
    add("--allocator", choices=("default", "keep", "both"), default="default",
        help="whether the C library keeps freed memory, on a CPU. default: in the manual forms, as in"
        " training; keep: in all forms; both: autograd with and without")  # fmt: skip
    add("--scaling", action="store_true", help="time several batches, widths and depths, and fit exponents")
    add("--profile", type=cli.at_least(0), nargs="?", const=5, default=0, metavar="STEPS",
        help="number of steps to profile by layer or kernel (default: 0; without a number: 5)")  # fmt: skip
    add("--json", type=cli.new_file, metavar="FILE", help="also write all figures to this file")
    add("--plot", type=cli.new_file, metavar="FILE", help="also draw the result into this PNG file")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if args.scaling and args.profile:
        raise UsageError("--scaling and --profile can't be combined")
    where = device.select_device(args.device)
    conf = cli.load_config(args, after=_overrides(args))
    shape, outputs = data.shapes(conf.data)
    make_optimizer(conf, make_net(conf, shape, outputs), make_loss(conf, len(shape) == 3))  # do they fit?
    task = forms.Task(conf, shape, outputs, where)
    field = forms.select_forms(args.forms, args.allocator, where)
    validate.check(conf, autograd=any(form.side == "autograd" for form in field))
    name = device.device_name(where)
    facts = {"config": conf.name, "device": name, "batch": conf.train.batch_size, "dtype": conf.train.dtype}
    facts |= {"backend": conf.net.backend, "recompute": conf.net.recompute, "allocator": args.allocator}
    facts["versions"] = device.versions()
    if args.scaling:
        facts["scaling"] = scaling(task, field, args.rounds, args.steps)
        first = facts["scaling"]["batch"]["points"][-1] | {"device": name}
        print(text.header(conf, name, first, torch.__version__))
        print("\nTime and memory grow with size to the power of\n")
        print(text.scaling(facts["scaling"]))
    else:
        facts |= race(task, field, args.rounds, args.steps, args.profile)
        print(text.header(conf, name, facts, torch.__version__), text.table(facts), sep="\n\n")
        if args.profile:
            print(f"\n{text.profiles(facts['profiles'])}")
    if args.json:
        files.write_text(Path(args.json), json.dumps(facts, indent=2) + "\n")
    if args.plot:
        (figures.scaling if args.scaling else figures.race)(Path(args.plot), facts)


def _overrides(args) -> list[str]:
    found = [f"train.dtype={args.dtype}"] if args.dtype else []
    found += [f"train.batch_size={args.batch}"] if args.batch is not None else []
    return found
