"""The command `nets distributed-bench`."""

from nets.commands import cli
from nets.common.errors import UsageError
from nets.distributed import measure, plan
from nets.distributed.alive import watched
from nets.distributed.world import join
from nets.report.tables import grid

DETAILS = """    torchrun --nproc-per-node 2 -m nets distributed-bench

First times sums of several sizes, and fits the bandwidth and latency of `nets distributed-plan` to
them. Then times a step of a dense net without sums, with sums during backward, and with sums after it,
beside the model's prediction. Every time is the median of the rounds, of the slowest process."""


def parser():
    parser = cli.parser("distributed-bench", DETAILS)
    cli.add_device(parser)
    add = parser.add_argument
    add("--width", type=cli.at_least(1), default=1024, metavar="N", help="inputs and outputs of each layer")
    add("--depth", type=cli.at_least(1), default=8, metavar="N", help="layers")
    add("--batch", type=cli.at_least(1), nargs="+", default=[64, 256, 1024], metavar="N",
        help="samples in each process's batch, a row of the table each (default: 64 256 1024)")  # fmt: skip
    add(
        "--mb",
        type=cli.between(1e-6, 4096),
        default=4.0,
        metavar="MB",
        help="MB of gradients in a bucket, which is summed at once",
    )
    add("--rounds", type=cli.at_least(1), default=20, metavar="N", help="repetitions of each measurement")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    with watched(join(args.device)) as world:
        if world.size == 1:
            raise UsageError(
                "needs at least two processes: torchrun --nproc-per-node 2 -m nets distributed-bench"
            )
        text = _report(world, args.width, args.depth, args.batch, args.mb, args.rounds)
        if world.is_main:
            print(text)


def _report(world, width: int, depth: int, batches: list[int], mb: float, rounds: int) -> str:
    """The measurements as text, beside the model's times: sums, then steps with a row for each batch."""
    found = measure.sums(world, rounds)
    link, hop = measure.fitted(found, world.size)
    weights = depth * width * (width + 1)
    heads = "batch each", "no sums", "during backward", "model", "after backward", "model", "hidden", "model"
    rows = [_step_row(world, width, depth, batch, mb, rounds, link, hop) for batch in batches]
    lines = [
        f"{world.size} processes: {link / 1e9:.2f} GB/s each way, {1e6 * hop:.0f} µs a hop",
        grid(_sum_rows(world.size, found, link, hop), left=()),
        "",
        f"{depth} layers of {width} × {width}: {4 * weights / 1e6:.0f} MB of gradients, ms a step",
        grid([heads, *rows], left=()),
    ]
    return "\n".join(lines)


def _sum_rows(n: int, found: dict[int, float], link: float, hop: float) -> list[list[str]]:
    machine = plan.Machine(link=link, hop=hop, wire=4)
    rows = [["MB", "ms", "model", "GB/s of each process"]]
    for size, seconds in found.items():
        sent = 2 * (n - 1) / n * size
        row = size / 1e6, 1e3 * seconds, 1e3 * plan.ring(size, n, machine), sent / seconds / 1e9
        rows.append([f"{v:.3f}" for v in row])
    return rows


def _step_row(world, width, depth, batch, mb, rounds, link, hop) -> list[str]:
    t = measure.steps(world, width, depth, batch, mb, rounds)
    flops = 6 * batch * depth * width**2
    work = plan.Work("dense", ((width**2, width * (width + 1)),) * depth)
    # the measured time without sums is all products: the model's update takes no time
    machine = plan.Machine(rate=flops / t["none"], memory=1e30, link=link, hop=hop, wire=4)
    during, after = (
        plan.step(work, batch * world.size, world.size, machine, mb * 1e6, overlap).seconds
        for overlap in (True, False)
    )
    times = t["none"], t["during"], during, t["after"], after
    hidden = (1 - (a - t["none"]) / (b - t["none"]) for a, b in ((t["during"], t["after"]), (during, after)))
    return [f"{batch}", *(f"{1e3 * v:.1f}" for v in times), *(f"{h:.0%}" for h in hidden)]
