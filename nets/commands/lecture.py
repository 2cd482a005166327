"""Run the lecture's claims as experiments, and write them up as a page."""

import time
from pathlib import Path

from tqdm import tqdm

from nets.commands import cli
from nets.common import device
from nets.common.device import versions
from nets.common.errors import UsageError, nearest
from nets.lecture import EXPERIMENTS, page


def main():
    parser = cli.parser(__doc__)
    parser.prog = "nets lecture"
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments to run; all by default")
    parser.add_argument("--list", action="store_true", help="name the experiments and leave")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same figures")
    parser.add_argument("--out", default="runs/lecture", metavar="DIR", help="for index.html and the rest")
    args = parser.parse_args()
    if args.list:
        for name, experiment in EXPERIMENTS.items():
            print(f"{name:<15}{experiment.__doc__.splitlines()[0]}")
        return
    for name in args.names:
        if name not in EXPERIMENTS:
            raise UsageError(f"{name}: no such experiment{nearest(name, EXPERIMENTS)}")
    if not 0 <= args.seed < 2**63:
        raise UsageError(f"--seed {args.seed}: must be a whole number from 0 up")
    where, out = device.pick(args.device), Path(args.out)
    if where.type == "cpu":
        device.keep_memory()
    out.mkdir(parents=True, exist_ok=True)
    results, seconds = {}, {}
    chosen = [name for name in EXPERIMENTS if not args.names or name in args.names]
    for name in tqdm(chosen, "lecture", unit="experiment", disable=None):
        begin = time.perf_counter()
        results[name] = EXPERIMENTS[name](args.seed, where)
        seconds[name] = round(time.perf_counter() - begin, 2)
        tqdm.write(page.line(name, results[name]))
    facts = {"seed": args.seed, "device": where.type, "versions": versions(), "seconds": seconds}
    page.write(out, results, facts)
    print(f"{sum(r.held for r in results.values())} of {len(results)} claims held; see {out / 'index.html'}")


if __name__ == "__main__":
    with cli.one_line_errors():
        main()
