"""The command: nets bench [CONFIG]"""

import json
from pathlib import Path

import torch

from nets.bench import forms, report
from nets.bench.race import race
from nets.bench.scaling import scaling
from nets.commands import cli
from nets.common import device
from nets.common import tensorfile as checkpoint
from nets.common.errors import UsageError
from nets.data import datasets as data
from nets.report import bench as picture
from nets.training import config
from nets.training.make import make_loss, make_net, make_optimizer

ABOUT = """Time a train step, written by hand and by autograd, of the same net on the same data.

Each form runs in a process of its own, and they take turns. Forms: manual and autograd (the net
in torch.nn), eagerly; -compiled, by torch.compile; and on CUDA -graph, as a captured graph, and
-compiled-graph, both."""


def main():
    args = _arguments()
    where = device.pick(args.device)
    conf = config.load(args.config, _overrides(args))
    shape, outputs = data.shapes(conf.data)
    make_optimizer(conf, make_net(conf, shape, outputs), make_loss(conf, len(shape) == 3))  # do they fit?
    task = forms.Task(conf, shape, outputs, where)
    field = forms.chosen(args.forms, args.allocator, where)
    if any(form.side == "autograd" for form in field) and conf.train.optimizer == "adaptive":
        raise UsageError(
            "train.optimizer: adaptive judges its steps itself; --forms manual is what can be timed"
        )
    name = device.called(where)
    facts = {"config": conf.name, "device": name, "batch": conf.train.batch_size, "dtype": conf.train.dtype}
    facts |= {"kernel": conf.net.backend, "recompute": conf.net.recompute, "allocator": args.allocator}
    facts["versions"] = device.versions()
    if args.scaling:
        facts["scaling"] = scaling(task, field, args.rounds, args.steps)
        first = facts["scaling"]["batch"]["points"][-1] | {"device": name}
        print(report.header(conf, name, first, torch.__version__))
        print("\nTime and memory grow with size to the power of\n")
        print(report.scaling(facts["scaling"]))
    else:
        facts |= race(task, field, args.rounds, args.steps, args.profile)
        print(report.header(conf, name, facts, torch.__version__), report.table(facts), sep="\n\n")
        if args.profile:
            print(f"\n{report.profiles(facts['profiles'])}")
    if args.json:
        checkpoint.write(Path(args.json), json.dumps(facts, indent=2) + "\n")
    if args.plot:
        (picture.scaling if args.scaling else picture.race)(Path(args.plot), facts)


def _overrides(args) -> list[str]:
    found = list(args.set)
    found += [f"train.dtype={args.dtype}"] if args.dtype else []
    found += [f"train.batch_size={args.batch}"] if args.batch is not None else []
    return found


def _arguments():
    parser = cli.parser(ABOUT)
    add = parser.add_argument
    add("config", nargs="?", default="configs/digits.toml", metavar="CONFIG", help="default: %(default)s")
    add("--set", action="append", default=[], metavar="a.b=v", help="override a key of the config")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--dtype", choices=("float64", "float32", "bfloat16"), help="default: the config's")
    add("--batch", type=int, metavar="N", help="samples in a batch; default: the config's")
    add("--forms", default="", metavar="A,B", help=f"which, of {', '.join(forms.NAMES)}")
    add("--rounds", type=int, default=15, help="how often each form has its turn; default: %(default)s")
    add("--steps", type=int, default=0, help="in a turn; default: as many as the fastest does in 0.5 s")
    add("--allocator", choices=("default", "keep", "both"), default="default",
        help="on a CPU, does the C library keep freed memory? default: the manual forms, as the trainer"
        " lets it; keep: all; both: the twin both ways")  # fmt: skip
    add("--scaling", action="store_true", help="over batch, width and depth, with fitted exponents")
    add("--profile", type=int, nargs="?", const=5, default=0, metavar="STEPS",
        help="where the time goes, by layer or kernel")  # fmt: skip
    add("--json", metavar="FILE", help="write every figure to FILE too")
    add("--plot", metavar="FILE", help="draw a PNG")
    args = parser.parse_args()
    if args.rounds < 1 or args.steps < 0 or args.profile < 0:
        raise UsageError("--rounds must be at least 1, --steps and --profile at least 0")
    if args.scaling and args.profile:
        raise UsageError("--scaling and --profile are two runs")
    return args


if __name__ == "__main__":
    with cli.one_line_errors():
        main()
