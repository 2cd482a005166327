"""The command `nets stream-bench`."""

import dataclasses
import subprocess
import sys

from nets.commands import cli
from nets.common import device
from nets.common.errors import UsageError
from nets.tools.stream_bench import HEAD, line, measure

DETAILS = """Prints for each worker count the images a second, the share of time in which the step waited
for images, and the peak memory of the process and its workers. Each count trains in its own process,
and streams even a tree that would fit in memory. Memory is the proportional set size: a page that n
processes share counts 1/n in each."""

MOST = 1024  # as data.num_workers


def parser():
    parser = cli.parser("stream-bench", DETAILS)
    cli.add_config(parser, default=None)
    cli.add_data_root(parser)
    parser.add_argument("--workers", default="0,1,2", metavar="N,N…", help="worker counts")
    parser.add_argument("--steps", type=cli.at_least(1), default=50, metavar="N", help="steps to time")
    cli.add_device(parser)
    parser.add_argument("--bare", action="store_true", help="leave out the heading")
    return parser


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    args = parser().parse_args(argv)
    counts = args.workers.split(",")
    if not all(n.isdecimal() and int(n[:9]) <= MOST for n in counts):
        got = args.workers if len(args.workers) < 80 else args.workers[:80] + "…"
        raise UsageError(f"--workers: must be whole numbers up to {MOST}, such as 0,1,2, got {got}")
    if not args.bare:
        print(HEAD, flush=True)
    if len(counts) > 1:
        for n in counts:
            again = [sys.executable, "-m", "nets", "stream-bench", *argv, "--workers", n, "--bare"]
            if code := subprocess.run(again).returncode:
                raise SystemExit(code)
        return
    conf, workers = cli.load_config(args), int(counts[0])
    data = dataclasses.replace(conf.data, memory_limit_mb=0, num_workers=workers)
    conf = dataclasses.replace(conf, data=data)
    print(line(workers, *measure(conf, device.select_device(args.device), args.steps)))
