"""Reuse: paths through a net multiply with every layer, but backprop works each node out once."""

import itertools
import math
import statistics
import time

import torch
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
GPU_WIDTHS, GPU_BATCH = (2048, 2896, 4096, 5792, 8192), 4096  # where a GPU is the limit, not the overhead


def dense(width: int, depth: int, device, dtype=torch.float64) -> Sequential:
    """depth layers of width sigmoid neurons, every neuron linked with all of the next layer."""
    layers = [layer for _ in range(depth) for layer in (Linear(width, width, bias=False), Sigmoid())]
    return Sequential(*layers).to(device, dtype)


def backprop(net: Sequential, x, d) -> dict[str, torch.Tensor]:
    z, saved = net.forward(x)
    return net.backward(saved, Performance()(z, d)[1])[1]


def every_path(net: Sequential, x, d):
    """The first layer's gradients, summed path by path as the definition has it.

    ∂P/∂w_ji = Σ over all paths j -> k -> l -> … -> o of (d−z)_o · o(1−o) · … · w_kj · y_j(1−y_j) · x_i.
    Returns dW (width, width) of the first layer, and the multiplications that it took.
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


def multiplications(net: Sequential, x, d) -> int:
    """Of the matrix products that backward really makes, as PyTorch dispatches them."""
    z, saved = net.forward(x)
    dz = Performance()(z, d)[1]
    with FlopCounterMode(display=False) as counter:
        net.backward(saved, dz)
    return counter.get_total_flops() // 2  # it counts a multiplication and an addition as two


def formula(width: int, depth: int, batch: int) -> int:
    """dx and dW of every layer, N·W² each."""
    return 2 * depth * batch * width**2


def exponent(x, y) -> float:
    """The slope of log y over log x, least squares."""
    x, y = ([math.log(v) for v in vs] for vs in (x, y))
    mx, my = statistics.mean(x), statistics.mean(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x)


def _timed(shapes, device, rounds: int, name: str) -> list[float]:
    """Seconds of a backward for every (width, depth, batch): the least of interleaved rounds.

    What else the machine does can only lengthen a round, hence the least.
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


def reuse(
    seed: int = 0, device="cpu", paths=((2, 8), (3, 7), (4, 6)), rounds: int = 11, rule=every_path
) -> Result:
    """width^depth paths, but depth × width² multiplications; both counted, and the latter timed."""
    torch.manual_seed(seed)
    device = torch.device(device)
    compared = [["width", "depth", "paths", "by paths", "by backprop", "difference"]]
    for width, depth in paths:
        for deep in range(2, depth + 1):
            net = dense(width, deep, device)
            x, d = (torch.rand(1, width, dtype=torch.float64).to(device) for _ in range(2))
            dw, count = rule(net, x, d)
            backward = backprop(net, x, d)["0.weight"]
            gap = ((dw - backward).abs().max() / backward.abs().max()).item()
            compared.append([width, deep, width**deep, count, multiplications(net, x, d), gap])
    worst = max(row[5] for row in compared[1:])

    counted = {}
    for what, shapes in (
        ("depth", [(32, k, 4) for k in DEPTHS]),
        ("width", [(w // 16, 4, 4) for w in WIDTHS]),
    ):
        counted[what] = []
        for width, depth, batch in shapes:
            net, x = dense(width, depth, device), torch.rand(batch, width, dtype=torch.float64).to(device)
            counted[what].append(
                [width, depth, batch, multiplications(net, x, x), formula(width, depth, batch)]
            )
    agree = all(row[3] == row[4] for rows in counted.values() for row in rows)
    work = {
        "depth": exponent([row[1] for row in counted["depth"]], [row[3] for row in counted["depth"]]),
        "width": exponent([row[0] for row in counted["width"]], [row[3] for row in counted["width"]]),
    }
    timings = {}
    if rounds:
        deep = _timed([(DEEP_WIDTH, k, DEEP_BATCH) for k in DEPTHS], device, rounds, "reuse, depth")
        widths, batch = (GPU_WIDTHS, GPU_BATCH) if device.type == "cuda" else (WIDTHS, WIDE_BATCH)
        wide = _timed([(w, WIDE_DEPTH, batch) for w in widths], device, rounds, "reuse, width")
        timings = {
            "depths": DEPTHS, "seconds_by_depth": deep, "widths": widths, "seconds_by_width": wide,
            "exponent_in_depth": exponent(DEPTHS, deep), "exponent_in_width": exponent(widths, wide),
        }  # fmt: skip
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
    shown = compared[:1] + [[*row[:5], f"{row[5]:.0e}"] for row in shown]
    last = compared[-1]
    return Result(
        "Reuse: why backprop is cheap",
        "The number of paths through a net grows exponentially with its depth, yet the work of computing the"
        " derivatives grows only linearly with depth, and with the square of the width, since what is known"
        " of one layer is reused for the one before.",
        "paths: width<sup>depth</sup>; &nbsp; work: depth × width<sup>2</sup>",
        worst < 1e-12
        and agree
        and abs(work["depth"] - 1) <= 0.1
        and abs(work["width"] - 2) <= 0.2
        and in_time,
        [
            (
                f"The gradient summed over every single path equals backprop's to {worst:.0e}. With width"
                f" {last[0]} and depth {last[1]} that is {last[2]:,} paths and {last[3]:,} multiplications,"
                f" against {last[4]:,} in backprop's matrix products."
            ),
            (
                "The multiplications that backward makes are 2·depth·width² a sample, counted and worked out"
                f" alike: exponent {work['depth']:.2f} in depth and {work['width']:.2f} in width."
            ),
        ],
        figures,
        [("reuse", "Paths, work and time", _draw(compared, timings))],
        shown,
        "The table has the multiplications, by paths and by backprop, and the largest relative difference of"
        " the gradients.",
        timings,
        (
            [
                f"Time of backward: exponent {timings['exponent_in_depth']:.2f} in depth (from {DEPTHS[0]} to"
                f" {DEPTHS[-1]} layers) and {timings['exponent_in_width']:.2f} in width (from {widths[0]} to"
                f" {widths[-1]}, where the products are the work)."
            ]
            if timings
            else []
        ),
    )


def _draw(compared, timings):
    figure, axes = plot.panels(3, 1, height=9.6)
    for (width, rows), color in zip(
        itertools.groupby(compared[1:], lambda r: r[0]), (plot.BLUE, plot.GREEN, plot.RED)
    ):
        rows = list(rows)
        depth = [r[1] for r in rows]
        axes[0].semilogy(
            depth, [r[3] for r in rows], "o-", color=color, ms=4, label=f"path by path, width {width}"
        )
        axes[0].semilogy(
            depth, [r[2] for r in rows], ":", color=color, label=f"number of paths, width {width}"
        )
        axes[0].semilogy(
            depth, [r[4] for r in rows], "s--", color=color, ms=4, label=f"backprop, width {width}"
        )
    axes[0].set(xlabel="depth", ylabel="number, multiplications")
    axes[0].set_ylim(1.5, 3e8)
    axes[0].legend(frameon=False, fontsize=9, ncols=2, loc="upper left")
    for a, what, power, title in (
        (axes[1], "depth", 1, "time by depth"),
        (axes[2], "width", 2, "time by width"),
    ):
        if not timings:
            continue
        x, y = timings[what + "s"], [1e3 * s for s in timings["seconds_by_" + what]]
        a.loglog(x, y, "o", color=plot.BLUE, label="backward, measured")
        middle = math.exp(statistics.mean(math.log(v / u**power) for u, v in zip(x, y)))
        a.loglog(
            x,
            [middle * u**power for u in x],
            "--",
            color=plot.GREY,
            label=f"{what}{'²' if power == 2 else ''}",
        )
        a.set(
            xlabel=what,
            ylabel="milliseconds",
            title=f"{title}: exponent {timings['exponent_in_' + what]:.2f}",
        )
        a.set_xticks(x, [str(v) for v in x])
        a.set_yticks(y, [f"{v:.3g}" for v in y])
        a.minorticks_off()
        a.legend(frameon=False)
    return figure
