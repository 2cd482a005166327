"""Hill climbing: try a step in every direction, or ask the gradient which one is best."""

import math
import time

import torch
from matplotlib.colors import BoundaryNorm

from nets.lecture import plot
from nets.lecture.many import chain, rows, slopes, value
from nets.lecture.result import Result
from nets.linear import Linear
from nets.net import Sequential

ALEXNET = 60_000_000  # weights, as the lecture has it


def neighbours(weights: int, device) -> torch.Tensor:
    """A step down, none or up for every weight, all combinations but standing still: (3^n − 1, n)."""
    ways = torch.tensor([0.0, -1.0, 1.0], dtype=torch.float64)
    return torch.cartesian_prod(*[ways] * weights).view(-1, weights)[1:].to(device)


def look_around(net: Sequential, x, d, step: float) -> int:
    """Move a net to its best neighbour, if that is better. Returns how many were evaluated."""
    here, own = value(net, x, d), list(net.params.values())
    moves = neighbours(len(own), x.device) * step  # every tensor is one number here
    moved = iter([t + move.view(-1, 1, 1) for t, move in zip(own, moves.T)])
    there = value(rows(net, lambda t: next(moved)), x.expand(len(moves), -1, -1), d)
    best, back = there.argmax(), iter(own)
    rows(net, lambda t: next(back))
    if there[best] > here:
        for t, move in zip(own, moves[best]):
            t += move
    return len(there)


def follow(net: Sequential, x, d, rate: float):
    """Move a net along its gradient."""
    for name, g in slopes(net, x, d)[2].items():
        net.params[name].add_(rate * g)


def hill_climbing(seed: int = 0, device="cpu", layers=(1, 2, 3, 4, 5), repeats: int = 5) -> Result:
    """3^n − 1 neighbours a step against one gradient, and both ways up the same hill."""
    torch.manual_seed(seed)
    x = torch.tensor([[[0.0], [1.0]]], device=device, dtype=torch.float64)
    table = [["weights", "neighbours evaluated a step", "3ⁿ − 1", "gradients a step"]]
    seconds = []
    for depth in layers:  # a chain of neurons, each with one weight and one threshold
        net = chain(1, [1] * (depth + 1), device)
        n = 2 * depth
        table.append([n, look_around(net, x, x, 0.1), 3**n - 1, 1])
        around = _seconds(lambda: look_around(net, x, x, 0.1), repeats, x.device)
        seconds.append([n, around, _seconds(lambda: follow(net, x, x, 0.1), repeats, x.device)])
    hill, paths = _map(device)
    steps = {name: len(path) - 1 for name, path in paths.items()}
    digits = ALEXNET * math.log10(3)
    once = _seconds_a_weight(device, repeats) * ALEXNET
    figures = {
        "evaluations": table,
        "steps_to_the_top": steps,
        "performance_reached": {name: path[-1][2] for name, path in paths.items()},
        "weights_of_alexnet": ALEXNET,
        "log10_of_its_neighbours": digits,
        "paths": paths,
    }
    reached = all(p > -1e-3 for p in figures["performance_reached"].values())
    return Result(
        "Hill climbing, blind and sighted",
        "Looking a step in every direction is hill climbing: hopeless with many weights, since their number "
        "grows exponentially. The gradient tells the best direction at once.",
        "3<sup>n</sup> − 1 neighbours, &nbsp; or &nbsp; Δw = r·(∂P/∂w<sub>1</sub>, ∂P/∂w<sub>2</sub>, …)",
        reached and all(row[1] == row[2] for row in table[1:]),
        [
            (
                "On the map below both ways get up, to P &gt; −0.001: the look around in"
                f" {steps['every direction']} steps of 8 evaluations each, the gradient in"
                f" {steps['gradient']} steps of one forward and one backward each."
            ),
            (
                f"A net of {table[-1][0]} weights has {table[-1][1]:,} neighbours. For 60 million weights the"
                f" number of neighbours has {math.floor(digits) + 1:,} digits; the gradient is still one"
                " forward and one backward."
            ),
        ],
        figures,
        [
            ("hill-climbing", "The performance over two weights, and both ways up", _draw_map(hill, paths)),
            ("hill-climbing-cost", "What one step costs", _draw_cost(table, seconds)),
        ],
        table,
        "The gradient is the best direction for a very short step, not the shortest way: it runs straight up"
        " the slope first and creeps along the ridge after, where the look around, with its steps of one"
        " length, does not.",
        {"seconds_a_step": seconds, "seconds_a_gradient_of_60_million_weights": once},
        [
            f"With {n} weights the look around took {1e3 * seconds[-1][1]:.2g} ms a step, forward and"
            f" backward {1e3 * seconds[-1][2]:.2g} ms. At the pace of a layer of a million weights, forward"
            f" and backward of 60 million take {once:.2g} s; all the neighbours at the same pace, about 10 to"
            f" the power {digits:,.0f} seconds."
        ],
    )


def _seconds(work, repeats: int, device) -> float:
    best = math.inf
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - begin)
    return best


def _seconds_a_weight(device, repeats: int) -> float:
    """Of forward and backward of one sample, measured on a layer of a million weights."""
    layer, x = Linear(1000, 1000).to(device), torch.ones(1, 1000, device=device)

    def work():
        y, saved = layer.forward(x)
        layer.backward(saved, y)

    return _seconds(work, 4 * repeats, x.device) / 1e6


def _map(device):
    """P over (w1, w2) of the net x -> w1 -> σ -> w2 -> σ -> z, and the two paths up.

    What is wanted, d, are the outputs of the same net with the weights (3, −4).
    """
    x = torch.linspace(-2, 2, 9, device=device, dtype=torch.float64)[None, :, None]

    def net(w1, w2):
        net, weights = chain(1, (1, 1, 1), device, bias=False), iter((w1, w2))
        return rows(net, lambda t: t.new_tensor(next(weights)).view(-1, 1, 1))

    d = net([3.0], [-4.0]).forward(x)[0]
    w1, w2 = torch.linspace(-2, 6, 161), torch.linspace(-7, 3, 201)
    grid = torch.cartesian_prod(w1, w2).T.tolist()
    p = value(net(*grid), x.expand(len(grid[0]), -1, -1), d).view(161, 201).T

    paths = {}
    for name, move, size in (("every direction", look_around, 0.1), ("gradient", follow, 1.5)):
        one, paths[name] = net([-1.0], [1.0]), []
        for _ in range(500):
            paths[name].append([t.item() for t in (*one.params.values(), value(one, x, d))])
            if paths[name][-1][2] > -1e-3:
                break
            move(one, x, d, size)
    return (w1.numpy(), w2.numpy(), p.cpu().numpy()), paths


def _draw_map(hill, paths):
    figure, axes = plot.panels(height=5.2)
    levels = [-3, -2.5, -2, -1.5, -1, -0.7, -0.5, -0.3, -0.15, -0.07, -0.03, -0.01, -0.003, -0.001, 0]
    shades = BoundaryNorm(levels, 256, extend="min")  # as many shades near the top as far below
    filled = axes.contourf(*hill, levels=levels, cmap="YlGnBu_r", norm=shades, extend="min")
    axes.contour(*hill, levels=levels, colors="white", linewidths=0.6)
    for (name, path), colour in zip(paths.items(), (plot.RED, plot.GOLD)):
        w1, w2, _ = zip(*path)
        axes.plot(w1, w2, ".-", color=colour, lw=1.6, ms=5, label=f"{name}: {len(path) - 1} steps")
    axes.plot(3, -4, "*", ms=15, color="white", mec="black", ls="", label="the top, P = 0")
    axes.set(xlabel="w₁", ylabel="w₂", xlim=(-2, 6), ylim=(-7, 3))
    axes.legend(loc="upper right", fontsize=10)
    figure.colorbar(filled, ax=axes, label="performance P", pad=0.02, ticks=levels[::2])
    return figure


def _draw_cost(table, seconds):
    figure, (above, below) = plot.panels(2, 1, height=6, sharex=True)
    n = [row[0] for row in table[1:]]
    above.semilogy(n, [row[1] for row in table[1:]], "o-", color=plot.RED, label="every direction: 3ⁿ − 1")
    above.semilogy(n, [1] * len(n), "s-", color=plot.BLUE, label="gradient: 1")
    above.set(ylabel="evaluations a step")
    below.semilogy(
        n, [row[1] for row in seconds], "o-", color=plot.RED, label="every direction, as one batch"
    )
    below.semilogy(n, [row[2] for row in seconds], "s-", color=plot.BLUE, label="forward and backward")
    below.set(xlabel="weights in the net", ylabel="seconds a step", xticks=n)
    for axes in (above, below):
        axes.legend(frameon=False)
    return figure
