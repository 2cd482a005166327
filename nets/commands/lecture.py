"""The command `nets lecture`."""

import time
from pathlib import Path

from tqdm import tqdm

from nets.commands import cli
from nets.common import device
from nets.common.errors import UsageError, nearest
from nets.lecture import EXPERIMENTS, page

DETAILS = """The claims are those of MIT 6.034's lecture on neural nets. Each is printed beside what was
measured; the page is index.html in the output folder."""


def parser():
    parser = cli.parser("lecture", DETAILS)
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments to run (default: all)")
    parser.add_argument("--list", action="store_true", help="print the experiments' names and exit")
    cli.add_device(parser)
    cli.add_seed(parser, "random seed; the same seed gives the same figures", 0)
    parser.add_argument(
        "--out", type=cli.path, default="runs/lecture", metavar="DIR", help="folder of index.html and figures"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if args.list:
        for name, experiment in EXPERIMENTS.items():
            print(f"{name:<15}{experiment.__doc__.splitlines()[0]}")
        return
    for name in args.names:
        if name not in EXPERIMENTS:
            raise UsageError(f"{name}: unknown experiment{nearest(name, EXPERIMENTS)}")
    where, out = device.select_device(args.device), Path(args.out)
    if where.type == "cpu":
        device.keep_freed_memory()
    out.mkdir(parents=True, exist_ok=True)
    results, seconds = {}, {}
    chosen = [name for name in EXPERIMENTS if not args.names or name in args.names]
    for name in tqdm(chosen, "lecture", unit="experiment", disable=None):
        begin = time.perf_counter()
        results[name] = EXPERIMENTS[name](args.seed, where)
        seconds[name] = round(time.perf_counter() - begin, 2)
        tqdm.write(page.line(name, results[name]))
    facts = {"seed": args.seed, "device": where.type, "versions": device.versions(), "seconds": seconds}
    page.write(out, results, facts)
    print(f"{sum(r.held for r in results.values())} of {len(results)} claims held; see {out / 'index.html'}")
