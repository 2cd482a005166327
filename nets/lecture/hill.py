"""Hill climbing: try a step in every direction, or take the gradient's direction."""

import math
import time
from collections.abc import Callable
from functools import partial

import torch
from matplotlib.colors import BoundaryNorm
from torch import Tensor

from nets.layers.containers import Sequential
from nets.layers.linear import Linear
from nets.lecture import plot
from nets.lecture.many import chain, map_params, performance, slopes
from nets.lecture.result import Result

ALEXNET = 60_000_000  # weights, by the lecture
START, TOP = (-1.0, 1.0), (3.0, -4.0)  # (w1, w2) on the map
STEP, RATE = 0.1, 1.5  # of the step in every direction, and of the gradient
CLOSE = -1e-3  # both stop above this P
SHORT = 1e-6  # a step so short that only the slope matters
W1, W2 = (-2, 6, 161), (-7, 3, 201)  # the map's axes: from, to, number of points


def neighbors(weights: int, device) -> Tensor:
    """Every combination of a step down, no step or a step up for each weight, without no step at all.

    (3^n − 1, n)
    """
    ways = torch.tensor([0.0, -1.0, 1.0], dtype=torch.float64)
    return torch.cartesian_prod(*[ways] * weights).view(-1, weights)[1:].to(device)


def try_all(net: Sequential, x, d, step: float) -> int:
    """Move a net to its best neighbor, if that is better. Returns the number of evaluated neighbors."""
    here, own = performance(net, x, d), list(net.params.values())
    moves = neighbors(len(own), x.device) * step  # every tensor is one number here
    moved = iter([t + move.view(-1, 1, 1) for t, move in zip(own, moves.T)])
    there = performance(map_params(net, lambda t: next(moved)), x.expand(len(moves), -1, -1), d)
    best, back = there.argmax(), iter(own)
    map_params(net, lambda t: next(back))
    if there[best] > here:
        for t, move in zip(own, moves[best]):
            t += move
    return len(there)


def follow(net: Sequential, x, d, rate: float) -> int:
    """Move a net along its gradient. Returns the number of evaluated gradients."""
    _, _, grads = slopes(net, x, d)
    for name, g in grads.items():
        net.params[name].add_(rate * g)
    return 1


def short_rises(net: Sequential, x, d, direction=lambda g: g, length: float = SHORT) -> tuple[float, float]:
    """The rises of P over one very short step: (along the gradient, to the best neighbor)."""
    here, own = performance(net, x, d), torch.stack([t.flatten() for t in net.params.values()], 1)  # (1, n)
    grads = slopes(net, x, d)[2]
    g = direction(torch.stack([grads[name].flatten() for name in net.params], 1))
    ways = torch.cat([g, neighbors(own.shape[1], x.device)])
    moved = iter((own + length * ways / ways.norm(dim=1, keepdim=True)).T)
    back = iter(list(net.params.values()))
    map_params(net, lambda t: next(moved).view(-1, 1, 1))
    rises = performance(net, x.expand(len(ways), -1, -1), d) - here
    map_params(net, lambda t: next(back))
    return rises[0].item(), rises[1:].max().item()


def hill_climbing(
    seed: int = 0, device="cpu", layers=(1, 2, 3, 4, 5), repeats: int = 5, direction=lambda g: g
) -> Result:
    """3^n − 1 neighbors per step against one gradient, and both paths up the same hill."""
    torch.manual_seed(seed)
    table, seconds = _cost(layers, repeats, device)
    hill, paths, rises = _map(device, direction)
    steps = {name: len(path) - 1 for name, path in paths.items()}
    digits = ALEXNET * math.log10(3)
    steepest = sum(along >= best * (1 - 1e-9) for along, best in rises)
    figures = {
        "evaluations": table,
        "steps_to_the_top": steps,
        "performance_reached": {name: path[-1][2] for name, path in paths.items()},
        "weights_of_alexnet": ALEXNET,
        "log10_of_its_neighbors": digits,
        "digits_of_its_neighbors": math.floor(digits) + 1,
        "map": {"inputs": [-2, 2, 9], "start": START, "top": TOP, "step": STEP, "rate": RATE}
        | {"w1": W1, "w2": W2},
        "close_enough": CLOSE,
        "rises_of_a_short_step": {"length": SHORT, "gradient_and_best_neighbor": rises},
        "places_where_the_gradient_is_best": steepest,
        "places": len(rises),
        "paths": paths,
    }
    large = _large_layer(device, repeats)
    reached = all(p > CLOSE for p in figures["performance_reached"].values())
    most, (_, try_all_s, gradient_s) = table[-1][0], seconds[-1]
    return Result(
        "Hill climbing, blind and sighted",
        "Hill climbing tries a step in every direction. With many weights that is hopeless, since the number"
        " of directions grows exponentially. The gradient gives the best direction at once.",
        "3<sup>n</sup> − 1 neighbors, &nbsp; or &nbsp; Δw = r·(∂P/∂w<sub>1</sub>, ∂P/∂w<sub>2</sub>, …)",
        reached and steepest == len(rises) and all(row[1] == row[2] and row[3] == 1 for row in table[1:]),
        [
            "On the map below both ways climb to P &gt; −0.001, where they stop, short of the top. Trying"
            f" every direction takes {steps['every direction']} steps, each to the best of 8 neighbors. The"
            f" gradient takes {steps['gradient']} steps, each of one forward and one backward.",
            f"Both paths together have {len(rises)} places. At {steepest} of them a very short step ({SHORT})"
            " along the gradient raises P at least as much as a step of that length to the best neighbor.",
            f"A net of {most} weights has {table[-1][1]:,} neighbors. With 60 million weights, the number of"
            f" neighbors has {math.floor(digits) + 1:,} digits. The gradient still needs one forward and one"
            " backward.",
        ],
        figures,
        [
            (
                "hill-climbing",
                "P over w₁ and w₂ of a net x → w₁ → σ → w₂ → σ → z, for nine inputs from −2 to 2. The wanted"
                " outputs are those of the net at (3, −4). Both paths start at (−1, 1)",
                _draw_map(hill, paths),
            ),
            ("hill-climbing-cost", "The cost of one step", _draw_cost(table, seconds)),
        ],
        table,
        "The gradient is the best direction for a very short step. It is not the shortest path. It leads"
        " straight up the slope first, and then creeps along the ridge. Trying every direction, with steps of"
        " one length, does not creep. Which of the two needs fewer steps depends on two sizes that are chosen"
        f" here: a step of {STEP:g} per weight for the one, a rate of {RATE:g} for the other.",
        {"seconds_a_step": seconds} | large,
        [
            f"With {most} weights, trying every direction took {1e3 * try_all_s:.2g} ms per step, forward and"
            f" backward took {1e3 * gradient_s:.2g} ms. A layer of 60 million weights took"
            f" {large['seconds_both']:.2g} s forward and backward, for one sample. Each of its neighbors"
            f" needs one forward of {large['seconds_forward']:.2g} s. All together they need about 10 to the"
            f" power {large['log10_seconds_of_all_neighbors']:,} seconds."
        ],
    )


def _cost(layers, repeats: int, device) -> tuple[list[list], list[list]]:
    """(a table of evaluations per step, [weights, seconds of try_all, seconds of follow] for each net).

    A net is a chain of neurons, each with one weight and one threshold.
    """
    x = torch.tensor([[[0.0], [1.0]]], device=device, dtype=torch.float64)
    table: list[list] = [["weights", "neighbors evaluated per step", "3ⁿ − 1", "gradients per step"]]
    seconds = []
    for depth in layers:
        n, net = 2 * depth, chain(1, [1] * (depth + 1), device)
        table.append([n, try_all(net, x, x, 0.1), 3**n - 1, follow(net, x, x, 0.1)])
        times = [_seconds(partial(way, net, x, x, 0.1), repeats, x.device) for way in (try_all, follow)]
        seconds.append([n, *times])
    return table, seconds


def _seconds(work: Callable, repeats: int, device) -> float:
    """The shortest time of some calls."""
    best = math.inf
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - begin)
    return best


def _large_layer(device, repeats: int) -> dict:
    """Seconds of one sample in a layer of 60 million weights, and log10 of the seconds of all neighbors."""
    side = math.isqrt(ALEXNET)
    layer, x = Linear(side, side).to(device), torch.ones(1, side, device=device)

    def both():
        y, saved = layer.forward(x)
        layer.backward(saved, y)

    forward = _seconds(lambda: layer.forward(x), repeats, x.device)
    return {
        "layer": [side, side],
        "seconds_forward": forward,
        "seconds_both": _seconds(both, repeats, x.device),
        "log10_seconds_of_all_neighbors": round(ALEXNET * math.log10(3) + math.log10(forward)),
    }


def _map(device, direction):
    """P over (w1, w2) of the net x -> w1 -> σ -> w2 -> σ -> z, both paths up, and `short_rises` on them.

    The wanted outputs d are those of the same net with the weights TOP.
    """
    x = torch.linspace(-2, 2, 9, device=device, dtype=torch.float64)[None, :, None]

    def net(w1, w2):
        net, weights = chain(1, (1, 1, 1), device, bias=False), iter((w1, w2))
        return map_params(net, lambda t: t.new_tensor(next(weights)).view(-1, 1, 1))

    d = net(*([w] for w in TOP)).forward(x)[0]
    w1, w2 = torch.linspace(*W1), torch.linspace(*W2)
    grid = torch.cartesian_prod(w1, w2).T.tolist()
    p = performance(net(*grid), x.expand(len(grid[0]), -1, -1), d).view(len(w1), len(w2)).T

    paths, rises = {}, []
    for name, move, size in (("every direction", try_all, STEP), ("gradient", follow, RATE)):
        one, paths[name] = net(*([w] for w in START)), []
        for _ in range(500):
            paths[name].append([t.item() for t in (*one.params.values(), performance(one, x, d))])
            if paths[name][-1][2] > CLOSE:
                break
            rises.append(short_rises(one, x, d, direction))
            move(one, x, d, size)
    return (w1.numpy(), w2.numpy(), p.cpu().numpy()), paths, rises


def _draw_map(hill, paths):
    figure, axes = plot.panels(height=4.6)
    figure.set_label(
        "A map of performance over two weights: a valley on the left, a bent ridge, and a top at (3,"
        " −4). Two paths lead from (−1, 1) to the top: trying every direction in even steps, and the"
        " gradient, which climbs the slope steeply and then creeps along the ridge."
    )
    levels = [-3, -2.5, -2, -1.5, -1, -0.7, -0.5, -0.3, -0.15, -0.07, -0.03, -0.01, -0.003, -0.001, 0]
    shades = BoundaryNorm(levels, 256, extend="min")  # as many shades near the top as far below it
    filled = axes.contourf(*hill, levels=levels, cmap="YlGnBu_r", norm=shades, extend="min")
    axes.contour(*hill, levels=levels, colors="white", linewidths=0.6)
    for (name, path), color in zip(paths.items(), (plot.RED, plot.GOLD)):
        w1, w2, _ = zip(*path)
        axes.plot(w1, w2, ".-", color=color, lw=1.6, ms=5, label=f"{name}: {len(path) - 1} steps")
    axes.plot(*TOP, "*", ms=15, color="white", mec="black", ls="", label="the top, P = 0")
    axes.set(xlabel="w₁", ylabel="w₂", xlim=W1[:2], ylim=W2[:2])
    axes.legend(loc="upper right", fontsize=10)
    figure.colorbar(filled, ax=axes, label="performance P", pad=0.02, ticks=levels[::2])
    return figure


def _draw_cost(table, seconds):
    figure, (above, below) = plot.panels(2, 1, height=6, sharex=True)
    figure.set_label(
        "Evaluations and seconds per step over the number of weights, on logarithmic axes. Trying"
        " every direction rises along a straight line, exponentially. The gradient stays level."
    )
    n = [row[0] for row in table[1:]]
    above.semilogy(n, [row[1] for row in table[1:]], "o-", color=plot.RED, label="every direction: 3ⁿ − 1")
    above.semilogy(n, [1] * len(n), "s-", color=plot.BLUE, label="gradient: 1")
    above.set(ylabel="evaluations per step")
    below.semilogy(
        n, [row[1] for row in seconds], "o-", color=plot.RED, label="every direction, as one batch"
    )
    below.semilogy(n, [row[2] for row in seconds], "s-", color=plot.BLUE, label="forward and backward")
    below.set(xlabel="weights in the net", ylabel="seconds per step", xticks=n)
    for axes in (above, below):
        axes.legend(frameon=False)
    return figure
