"""Reuse: the number of paths multiplies with every layer, but backprop computes each node once."""

import itertools
import math
import statistics
import time

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from nets.layers.activations import Sigmoid
from nets.layers.containers import Sequential
from nets.layers.linear import Linear
from nets.lecture import plot
from nets.lecture.result import Result
from nets.losses import Performance

DEPTHS, DEEP_WIDTH, DEEP_BATCH = (4, 8, 16, 32, 64), 384, 64
WIDTHS, WIDE_DEPTH, WIDE_BATCH = (512, 724, 1024, 1448, 2048), 2, 256
GPU_WIDTHS, GPU_BATCH = (2048, 2896, 4096, 5792, 8192), 4096  # sizes at which launches don't dominate


def dense(width: int, depth: int, device, dtype=torch.float64) -> Sequential:
    """`depth` layers of `width` sigmoid neurons, each linked to all neurons of the next layer."""
    layers = [layer for _ in range(depth) for layer in (Linear(width, width, bias=False), Sigmoid())]
    return Sequential(*layers).to(device, dtype)


def backprop(net: Sequential, x: Tensor, d: Tensor) -> dict[str, Tensor]:
    z, saved = net.forward(x)
    return net.backward(saved, Performance()(z, d)[1])[1]


def every_path(net: Sequential, x: Tensor, d: Tensor) -> tuple[Tensor, int]:
    """The first layer's gradients, summed path by path, as in the definition.

    ∂P/∂w_ji = Σ over all paths j -> k -> l -> … -> o of (d−z)_o · o(1−o) · … · w_kj · y_j(1−y_j) · x_i.
    Returns dW (width, width) of the first layer, and the number of multiplications.
    """
    weights = [w.T.tolist() for w in net.params.values()]
    ys, y = [], x
    for layer in net.children.values():
        y, _ = layer.forward(y)
        if isinstance(layer, Sigmoid):
            ys.append(y[0].tolist())
    width, depth, count = x.shape[1], len(ys), 0
    errors = [a - b for a, b in zip(d[0].tolist(), ys[-1])]
    dw = torch.zeros(width, width, dtype=torch.float64)
    for path in itertools.product(range(width), repeat=depth):  # a node of every layer
        factor = errors[path[-1]]
        for k in range(depth):
            y = ys[k][path[k]]
            factor *= y * (1 - y)
            count += 2
            if k:
                factor *= weights[k][path[k - 1]][path[k]]
                count += 1
        for i, value in enumerate(x[0].tolist()):
            dw[path[0], i] += factor * value
            count += 1
    return dw.to(x.device), count


def multiplications(net: Sequential, x: Tensor, d: Tensor) -> int:
    """The multiplications of backward's matrix products, counted by PyTorch as they run."""
    z, saved = net.forward(x)
    dz = Performance()(z, d)[1]
    with FlopCounterMode(display=False) as counter:
        net.backward(saved, dz)
    return counter.get_total_flops() // 2  # a multiplication and an addition count as two


def formula(width: int, depth: int, batch: int) -> int:
    """The multiplications by formula: dx and dW of every layer, N·W² each."""
    return 2 * depth * batch * width**2


def exponent(x, y) -> float:
    """The slope of log y over log x, by least squares."""
    x, y = ([math.log(v) for v in vs] for vs in (x, y))
    mx, my = statistics.mean(x), statistics.mean(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x)


def reuse(
    seed: int = 0, device="cpu", paths=((2, 8), (3, 7), (4, 6)), rounds: int = 11, rule=every_path
) -> Result:
    """width^depth paths, but depth × width² multiplications: both counted, the latter also timed."""
    torch.manual_seed(seed)
    device = torch.device(device)
    compared = _compare_paths(paths, device, rule)
    worst = max(row[5] for row in compared[1:])
    counted = _count_work(device)
    agree = all(row[3] == row[4] for table in counted.values() for row in table)
    column = {"depth": 1, "width": 0}
    work = {
        what: exponent([row[column[what]] for row in table], [row[3] for row in table])
        for what, table in counted.items()
    }
    timings = _time_work(device, rounds) if rounds else {}
    in_time = not timings or (
        abs(timings["exponent_in_depth"] - 1) <= 0.1 and abs(timings["exponent_in_width"] - 2) <= 0.2
    )
    figures = {
        "compared": compared,
        "largest_relative_difference": worst,
        "counted": counted,
        "exponents_of_work": work,
    }
    shown = [row for row in compared[1:] if tuple(row[:2]) in paths]
    width, depth, count, by_paths, by_backprop, _ = compared[-1]
    timed = []
    if timings:
        deep, wide = timings["depths"], timings["widths"]
        timed.append(
            f"The time of backward has exponent {timings['exponent_in_depth']:.2f} in depth (from {deep[0]}"
            f" to {deep[-1]} layers) and {timings['exponent_in_width']:.2f} in width (from {wide[0]} to"
            f" {wide[-1]}, where the products dominate the time)."
        )
    return Result(
        "Reuse: why backprop is cheap",
        "The number of paths through a net grows exponentially with its depth. The work of computing the"
        " derivatives grows only linearly with depth, and with the square of the width. The reason is reuse:"
        " the results of one layer are used again for the layer before it.",
        "paths: width<sup>depth</sup>; &nbsp; work: depth × width<sup>2</sup>",
        worst < 1e-12
        and agree
        and abs(work["depth"] - 1) <= 0.1
        and abs(work["width"] - 2) <= 0.2
        and in_time,
        [
            f"The gradient summed over every single path equals backprop's to {worst:.0e}. At width {width}"
            f" and depth {depth} there are {count:,} paths, which take {by_paths:,} multiplications."
            f" Backprop's matrix products take {by_backprop:,}.",
            "Backward makes 2·depth·width² multiplications per sample. The count agrees with this formula:"
            f" exponent {work['depth']:.2f} in depth and {work['width']:.2f} in width.",
        ],
        figures,
        [("reuse", "Paths, work and time", _draw(compared, timings))],
        compared[:1] + [[*row[:5], f"{row[5]:.0e}"] for row in shown],
        "The table shows the multiplications by paths and by backprop, and the largest relative difference of"
        " the gradients.",
        timings,
        timed,
    )


def _compare_paths(paths, device, rule) -> list[list]:
    """A table of gradients by paths (`rule`) and by backprop, up to each (width, depth) of `paths`."""
    table: list[list] = [["width", "depth", "paths", "by paths", "by backprop", "difference"]]
    for width, most in paths:
        for depth in range(2, most + 1):
            net = dense(width, depth, device)
            x, d = (torch.rand(1, width, dtype=torch.float64).to(device) for _ in range(2))
            dw, count = rule(net, x, d)
            backward = backprop(net, x, d)["0.weight"]
            gap = ((dw - backward).abs().max() / backward.abs().max()).item()
            table.append([width, depth, width**depth, count, multiplications(net, x, d), gap])
    return table


def _count_work(device) -> dict[str, list[list[int]]]:
    """[width, depth, batch, multiplications, the same by formula] for several depths and widths."""
    shapes = {"depth": [(32, k, 4) for k in DEPTHS], "width": [(w // 16, 4, 4) for w in WIDTHS]}
    counted = {}
    for what, sizes in shapes.items():
        counted[what] = []
        for width, depth, batch in sizes:
            net, x = dense(width, depth, device), torch.rand(batch, width, dtype=torch.float64).to(device)
            count = multiplications(net, x, x)
            counted[what].append([width, depth, batch, count, formula(width, depth, batch)])
    return counted


def _time_work(device, rounds: int) -> dict:
    """Seconds of backward for several depths and widths, and their exponents."""
    deep = _seconds([(DEEP_WIDTH, k, DEEP_BATCH) for k in DEPTHS], device, rounds, "reuse, depth")
    widths, batch = (GPU_WIDTHS, GPU_BATCH) if device.type == "cuda" else (WIDTHS, WIDE_BATCH)
    wide = _seconds([(w, WIDE_DEPTH, batch) for w in widths], device, rounds, "reuse, width")
    return {
        "depths": DEPTHS, "seconds_by_depth": deep, "widths": widths, "seconds_by_width": wide,
        "exponent_in_depth": exponent(DEPTHS, deep), "exponent_in_width": exponent(widths, wide),
    }  # fmt: skip


def _seconds(shapes, device, rounds: int, name: str) -> list[float]:
    """Seconds of one backward for every (width, depth, batch): the minimum over interleaved rounds.

    Other work of the machine can only make a round longer, hence the minimum.
    """
    work, times = [], [[] for _ in shapes]
    for width, depth, batch in shapes:
        net, x = dense(width, depth, device, torch.float32), torch.rand(batch, width).to(device)
        work.append((net, x, net.forward(x)[1]))
    for turn in tqdm(range(rounds + 1), name, disable=None, leave=False):
        for (net, x, saved), seconds in zip(work, times):
            begin = time.perf_counter()
            net.backward(saved, x, keep=True)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:  # the first warms up
                seconds.append(time.perf_counter() - begin)
    return [min(s) for s in times]


def _draw(compared: list[list], timings: dict):
    figure, axes = plot.panels(3, 1, height=10.4)
    figure.set_label(
        "Above: by depth, on a logarithmic axis, the multiplications path by path rise along steep"
        " straight lines; those of backprop hardly rise. Below: the measured times of backward lie on"
        " lines of slope 1 in depth and of slope 2 in width."
    )
    _draw_counts(axes[0], compared)
    if timings:
        _draw_times(axes[1], timings, "depth", 1)
        _draw_times(axes[2], timings, "width", 2)
    return figure


def _draw_counts(axes, compared: list[list]):
    groups = itertools.groupby(compared[1:], lambda row: row[0])
    for (width, group), color in zip(groups, (plot.BLUE, plot.GREEN, plot.RED)):
        _, depth, paths, by_paths, by_backprop, _ = zip(*group)
        axes.semilogy(depth, by_paths, "o-", color=color, ms=4, label=f"path by path, width {width}")
        axes.semilogy(depth, paths, ":", color=color, label=f"number of paths, width {width}")
        axes.semilogy(depth, by_backprop, "s--", color=color, ms=4, label=f"backprop, width {width}")
    axes.set(xlabel="depth", ylabel="number, multiplications")
    axes.set_ylim(1.5, 3e8)
    axes.legend(frameon=False, fontsize=10, bbox_to_anchor=(0, 1), loc="lower left")


def _draw_times(axes, timings: dict, what: str, power: int):
    """Milliseconds by depth or width, and the line with slope `power` through their middle."""
    x, y = timings[what + "s"], [1e3 * s for s in timings["seconds_by_" + what]]
    axes.loglog(x, y, "o", color=plot.BLUE, label="backward, measured")
    middle = math.exp(statistics.mean(math.log(v / u**power) for u, v in zip(x, y)))
    label = f"{what}{'²' if power == 2 else ''}"
    axes.loglog(x, [middle * u**power for u in x], "--", color=plot.GRAY, label=label)
    axes.set(xlabel=what, ylabel="milliseconds")
    axes.set(title=f"time by {what}: exponent {timings['exponent_in_' + what]:.2f}")
    axes.set_xticks(x, [str(v) for v in x])
    axes.set_yticks(y, [f"{v:.3g}" for v in y])
    axes.minorticks_off()
    axes.legend(frameon=False)
