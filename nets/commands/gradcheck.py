"""The command `nets gradcheck`."""

import argparse
import contextlib
import copy
import functools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from nets.commands import cli
from nets.commands.targets import Case, FunctionCase, cases, everything, shipped_configs
from nets.common import device, files
from nets.common.errors import MismatchError, Problem, Stopped, UsageError, describe
from nets.gradcheck import check, precision
from nets.kernels import lower
from nets.report import differences as figures

DETAILS = """A TARGET is one of

  a config             digits, or a path such as configs/digits.toml
  a layer or a loss    Conv2d
  torchvision:MODEL    torchvision:resnet18
  MODULE:CALLABLE      mine:make_layer, which returns a layer, a torch.nn model, or (either, x)
                       mine:make, which returns a function, or (function, inputs, ...): a
                       torch.autograd.Function, a custom operator, a function that uses them,
                       or a pair (forward, backward) of plain functions
                       mine:Square, such a function itself

A torch model is converted to layers (nets.convert.from_torch), which are compared with autograd of
the model itself."""
DTYPES = ("float64", "float32", "float16", "bfloat16")


def parser():
    parser = cli.parser("gradcheck", DETAILS)
    add = parser.add_argument
    add("target", nargs="*", metavar="TARGET", help="what to check (default: digits)")
    add("--all", action="store_true", help="check all shipped configs, layers and losses (--seeds: configs)")
    cli.add_set(parser)
    cli.add_device(parser)
    add("--dtype", default="float64", choices=DTYPES, help="number type of both sides")
    add("--batch", type=cli.at_least(1), default=4, metavar="N", help="samples in a config's batch")
    cli.add_seed(parser, "random seed of weights and inputs (default: the config's, or 0)")
    add("--samples", type=cli.at_least(0), metavar="N",
        help="entries of each tensor to check by finite differences, in float64 (default: 4, or 1 of a"
        " torch model)")  # fmt: skip
    add("--shape", type=_shape, metavar="N,C,H,W", action="append", default=[],
        help="input's shape (default: that of the inputs that the callable returns; for torchvision models"
        " 2,3,64,64); again for each further input of a function")  # fmt: skip
    add("--seeds", type=cli.at_least(0), default=0, metavar="N",
        help="below float64: compare both sides' errors against a float64 truth, over N seeds (default: 0,"
        " off)")  # fmt: skip
    add("--strict", action="store_true",
        help="count a breach of the contract that concerns no gradient's value (memory layout, an expanded"
        " dy, a batch of no samples) as an error")  # fmt: skip
    add("--tf32", action="store_true", help="let CUDA round float32 products to TF32")
    add("--json", type=cli.new_file, metavar="FILE", help="also write all figures to this file")
    add(
        "--plot",
        type=cli.new_file,
        metavar="FILE",
        help="also draw the differences into this PNG file; more targets and cases get files beside it",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if args.all and args.target:
        raise UsageError("--all names every target; leave the others out")
    if args.seeds and (args.dtype == "float64" or args.plot):
        raise UsageError("--seeds compares a lower --dtype with float64, and draws nothing")
    if args.shape and not any(":" in target for target in args.target):
        raise UsageError(
            "--shape is for module:callable and torchvision:model; the other targets have their own"
        )
    where, dtype = device.select_device(args.device), getattr(torch, args.dtype)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.tf32
    targets = args.target or ["digits"]
    if args.all:  # a layer alone sums a few terms: its errors differ by the order of addition only
        targets = shipped_configs() if args.seeds else everything()

    def named(target, seed):
        return cases(target, args.set, args.batch, seed, args.shape)

    facts = {"ok": True, "device": str(where), "dtype": args.dtype, "tf32": args.tf32}
    facts |= {"torch": torch.__version__, "targets": []}
    tf32 = "on" if args.tf32 else "off"
    print(f"{args.dtype} on {where}, TF32 {tf32}, torch {torch.__version__}")
    if args.seeds:
        bad = _precision(targets, named, where, dtype, args.seeds, facts)
    else:
        bad = _check(targets, named, where, dtype, args, facts)
    facts["ok"] = not bad
    if args.json:
        facts = json.loads(json.dumps(facts), parse_constant=lambda _: None)  # JSON has no NaN
        files.write_text(Path(args.json), json.dumps(facts, indent=2) + "\n")
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise MismatchError(f"gradient mismatch in {bad[0]}{more}")


def _variants(case: Case | FunctionCase) -> Sequence[Case | FunctionCase]:
    """The case with the reference formulas, and a second one with the kernels that it trains with."""
    if isinstance(case, FunctionCase):
        return [case]
    plain = replace(case, backend="reference")
    if case.backend == "reference":
        return [plain]
    return [plain, replace(case, name=f"{case.name} ({case.backend})", layer=copy.deepcopy(case.layer))]


def _check(targets, named, where, dtype, args, facts) -> list[str]:
    todo = [(t, variant) for t in targets for case in named(t, args.seed) for variant in _variants(case)]
    bad, drawn = [], []
    if args.plot and any(isinstance(case, FunctionCase) for _, case in todo):
        raise UsageError("--plot draws layers and nets only")
    total = sum(len(case.modes()) for _, case in todo)
    with tqdm(total=total, unit="check", disable=None, leave=False) as bar:
        for target, case in todo:
            bar.set_description(case.name)
            case, before = case.to(where, dtype), None
            if isinstance(case, Case):
                case.layer = lower(case.layer, case.backend, where, dtype)
            for training in case.modes():
                case.train(training)
                report = _report(case, args.samples, args.seed or 0, args.strict)
                bar.update()
                facts["targets"].append({"target": target, "case": case.name, **report.facts()})
                same = before and (before.rows, before.breaches) == (report.rows, report.breaches)
                if report.ok and len(targets) > 1:
                    tqdm.write(report.line(case.name))
                elif same:
                    tqdm.write(f"{report.heading(case.name)}: the same")
                else:
                    tqdm.write(f"\n{case.name}, {report.table()}")
                before = report
                if not report.ok and not same:
                    first = "first at " if report.guilty else ""
                    bad.append(f"{report.heading(case.name)}, {first}{report.problem}")
            if args.plot and isinstance(case, Case):
                drawn.append(_plot_file(args.plot, target if len(targets) > 1 else "", drawn))
                _plot(drawn[-1], case, where)
                tqdm.write(f"wrote {drawn[-1]}")
    if not bad:
        tensors = sum(len(t["rows"]) for t in facts["targets"])
        modes = " in two modes" if any(len(case.modes()) > 1 for _, case in todo) else ""
        print(f"every gradient agrees: {len(todo)} cases{modes}, {tensors} tensors")
    return bad


def _report(case: Case | FunctionCase, samples: int | None, seed: int, strict: bool):
    if isinstance(case, Case):
        samples = (1 if case.module else 4) if samples is None else samples
        return _one(case, samples, seed, strict=strict)
    with _in_one_line(case.name):
        return check(case.f, *case.inputs, samples=4 if samples is None else samples, seed=seed)


def _one(case: Case, samples: int, seed: int, **options):
    with _in_one_line(case.name) if case.external else contextlib.nullcontext():
        wide = case.x.dtype in (torch.float32, torch.float64)  # a module mixes no types
        options["module"] = case.module if wide else None
        return check(case.layer, case.x, None, case.loss, case.target, samples, seed, **options)


@contextlib.contextmanager
def _in_one_line(name: str):
    """An exception in a user's code becomes a UsageError."""
    try:
        yield
    except (KeyboardInterrupt, Stopped):
        raise
    except BaseException as e:
        raise UsageError(f"{name}: {e if isinstance(e, Problem) else describe(e)}") from None


def _plot_file(file: str, target: str, taken: list[Path]) -> Path:
    """The next case's file: FILE, with the target if there are several, and with -2, -3, … for more cases."""
    path, n = Path(file), 1
    if target:
        path = path.with_stem(f"{path.stem}-{Path(target).stem.replace(':', '-')}")
    first = path
    while path in taken:
        n += 1
        path = first.with_stem(f"{first.stem}-{n}")
    return path


def _plot(path: Path, case: Case, where):
    """Draw a case in training mode, in each dtype; float16 only on CUDA."""
    found = {}
    for name in DTYPES:
        if name == "float16" and where.type != "cuda":
            continue
        lower = case.to(where, getattr(torch, name))
        lower.layer.train()
        triples = found[name] = []
        _one(lower, 0, 0, contract=False, watch=lambda *triple, kept=triples: kept.append(triple))
    figures.draw(path, f"{case.name}: manual and autograd gradients", found)


def _precision(targets, named, where, dtype, seeds, facts) -> list[str]:
    bad = []
    counts = [(target, n) for target in targets for n in range(len(named(target, 0)))]
    with tqdm(total=2 * seeds * len(counts), unit="check", disable=None, leave=False) as bar:
        for target, n in counts:
            for training in (True, False):
                case = functools.partial(_nth_case, named, target, n)
                try:
                    rows = precision.ratios(case, where, dtype, seeds, training, bar)
                except precision.NotChecked as e:
                    bad.append(f"{target}: not checked: {e}")
                    facts["targets"].append({"target": target, "unchecked": str(e)})
                    continue
                name = f"{rows[0].case}, {rows[0].mode} mode"
                tqdm.write(f"\n{name}: errors against a float64 truth, medians of {seeds} seeds")
                tqdm.write(precision.table(rows))
                facts["targets"].append({"target": target, "ratios": [vars(r) | {"ok": r.ok} for r in rows]})
                bad += [f"{name}, {r.tensor}: {_fault(r)}" for r in rows if not r.ok]
    if not bad:
        print(f"no manual gradient is further from the truth than {precision.MAX_RATIO} times autograd's")
    return bad


def _fault(ratio: precision.Ratio) -> str:
    return f"{ratio.ratio:.2f} times autograd's error" if ratio.checked else "not checked: no entry is finite"


def _nth_case(named, target: str, n: int, seed: int) -> Case:
    case = named(target, seed)[n]
    if isinstance(case, FunctionCase):
        raise UsageError(f"{target}: --seeds is for layers and nets")
    return case


def _shape(text: str) -> tuple[int, ...]:
    sizes = tuple(int(n) for n in text.split(","))
    if any(n < 0 for n in sizes):
        raise argparse.ArgumentTypeError(f"sizes must be at least 0, got {text}")
    return sizes


_shape.__name__ = "shape"  # as argparse names it in its errors
