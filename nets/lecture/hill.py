"""Hill climbing: try a step in every direction, or ask the gradient which one is best."""

import math
import time

import torch
from matplotlib.colors import BoundaryNorm

from nets.layers.containers import Sequential
from nets.layers.linear import Linear
from nets.lecture import plot
from nets.lecture.many import chain, rows, slopes, value
from nets.lecture.result import Result

ALEXNET = 60_000_000  # weights, as the lecture has it
START, TOP = (-1.0, 1.0), (3.0, -4.0)  # of the map
STEP, RATE = 0.1, 1.5  # of the look around, and of the gradient
CLOSE = -1e-3  # P at which both stop
SHORT = 1e-6  # a step on which the slope is all that counts
W1, W2 = (-2, 6, 161), (-7, 3, 201)  # from, to, places


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


def follow(net: Sequential, x, d, rate: float) -> int:
    """Move a net along its gradient. Returns how many gradients that took."""
    _, _, grads = slopes(net, x, d)
    for name, g in grads.items():
        net.params[name].add_(rate * g)
    return 1


def best_direction(net: Sequential, x, d, direction=lambda g: g, length: float = SHORT):
    """How much P rises over one very short step: along the gradient, and to the best neighbour."""
    here, own = value(net, x, d), torch.stack([t.flatten() for t in net.params.values()], 1)  # (1, n)
    grads = slopes(net, x, d)[2]
    g = direction(torch.stack([grads[name].flatten() for name in net.params], 1))
    ways = torch.cat([g, neighbours(own.shape[1], x.device)])
    moved = iter((own + length * ways / ways.norm(dim=1, keepdim=True)).T)
    keep = iter(list(net.params.values()))
    there = value(rows(net, lambda t: next(moved).view(-1, 1, 1)), x.expand(len(ways), -1, -1), d) - here
    rows(net, lambda t: next(keep))
    return there[0].item(), there[1:].max().item()


def hill_climbing(
    seed: int = 0, device="cpu", layers=(1, 2, 3, 4, 5), repeats: int = 5, direction=lambda g: g
) -> Result:
    """3^n − 1 neighbours a step against one gradient, and both ways up the same hill."""
    torch.manual_seed(seed)
    x = torch.tensor([[[0.0], [1.0]]], device=device, dtype=torch.float64)
    table = [["weights", "neighbours evaluated a step", "3ⁿ − 1", "gradients a step"]]
    seconds = []
    for depth in layers:  # a chain of neurons, each with one weight and one threshold
        net = chain(1, [1] * (depth + 1), device)
        n = 2 * depth
        table.append([n, look_around(net, x, x, 0.1), 3**n - 1, follow(net, x, x, 0.1)])
        around = _seconds(lambda: look_around(net, x, x, 0.1), repeats, x.device)
        seconds.append([n, around, _seconds(lambda: follow(net, x, x, 0.1), repeats, x.device)])
    hill, paths, rises = _map(device, direction)
    steps = {name: len(path) - 1 for name, path in paths.items()}
    digits = ALEXNET * math.log10(3)
    steepest = sum(along >= best * (1 - 1e-9) for along, best in rises)
    figures = {
        "evaluations": table,
        "steps_to_the_top": steps,
        "performance_reached": {name: path[-1][2] for name, path in paths.items()},
        "weights_of_alexnet": ALEXNET,
        "log10_of_its_neighbours": digits,
        "digits_of_its_neighbours": math.floor(digits) + 1,
        "map": {"inputs": [-2, 2, 9], "start": START, "top": TOP, "step": STEP, "rate": RATE}
        | {"w1": W1, "w2": W2},
        "close_enough": CLOSE,
        "rises_of_a_short_step": {"length": SHORT, "gradient_and_best_neighbour": rises},
        "places_where_the_gradient_is_best": steepest,
        "places": len(rises),
        "paths": paths,
    }
    large = _large_layer(device, repeats)
    reached = all(p > CLOSE for p in figures["performance_reached"].values())
    return Result(
        "Hill climbing, blind and sighted",
        "Looking a step in every direction is hill climbing: hopeless with many weights, since their number "
        "grows exponentially. The gradient tells the best direction at once.",
        "3<sup>n</sup> − 1 neighbours, &nbsp; or &nbsp; Δw = r·(∂P/∂w<sub>1</sub>, ∂P/∂w<sub>2</sub>, …)",
        reached and steepest == len(rises) and all(row[1] == row[2] and row[3] == 1 for row in table[1:]),
        [
            (
                "On the map below both ways get up, as far as P &gt; −0.001, where they stop, short of the"
                f" top: the look around in {steps['every direction']} steps, each to the best of 8"
                f" neighbours, the gradient in {steps['gradient']} steps of one forward and one backward"
                " each."
            ),
            (
                f"At {steepest} of the {len(rises)} places along both paths a very short step ({SHORT})"
                " along the"
                " gradient raised P as much as a step of that length to the best neighbour, or more."
            ),
            (
                f"A net of {table[-1][0]} weights has {table[-1][1]:,} neighbours. For 60 million weights the"
                f" number of neighbours has {math.floor(digits) + 1:,} digits; the gradient is still one"
                " forward and one backward."
            ),
        ],
        figures,
        [
            (
                "hill-climbing",
                "P over w₁ and w₂ of a net x → w₁ → σ → w₂ → σ → z, for nine inputs from −2 to 2. Wanted"
                " are the"
                " outputs that it gives at (3, −4). Both ways start at (−1, 1)",
                _draw_map(hill, paths),
            ),
            ("hill-climbing-cost", "What one step costs", _draw_cost(table, seconds)),
        ],
        table,
        "The gradient is the best direction for a very short step, not the shortest way: it runs straight up"
        " the slope first and creeps along the ridge after, where the look around, with its steps of one"
        " length, does not. Which of them needs fewer steps depends on two sizes that we chose: a step"
        f" of {STEP:g}"
        f" a weight for the one, a rate of {RATE:g} for the other.",
        {"seconds_a_step": seconds} | large,
        [
            f"With {n} weights the look around took {1e3 * seconds[-1][1]:.2g} ms a step, forward and"
            f" backward {1e3 * seconds[-1][2]:.2g} ms. A layer of 60 million weights took"
            f" {large['seconds_both']:.2g} s forward and backward, for one sample. Its neighbours need a"
            f" forward each, {large['seconds_forward']:.2g} s: together about 10 to the power"
            f" {large['log10_seconds_of_all_neighbours']:,} seconds."
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


def _large_layer(device, repeats: int) -> dict:
    """Seconds of one sample through a layer of 60 million weights, and log10 of those of all neighbours."""
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
        "log10_seconds_of_all_neighbours": round(ALEXNET * math.log10(3) + math.log10(forward)),
    }


def _map(device, direction):
    """P over (w1, w2) of the net x -> w1 -> σ -> w2 -> σ -> z, the two paths up, and `best_direction` there.

    What is wanted, d, are the outputs of the same net with the weights TOP.
    """
    x = torch.linspace(-2, 2, 9, device=device, dtype=torch.float64)[None, :, None]

    def net(w1, w2):
        net, weights = chain(1, (1, 1, 1), device, bias=False), iter((w1, w2))
        return rows(net, lambda t: t.new_tensor(next(weights)).view(-1, 1, 1))

    d = net(*([w] for w in TOP)).forward(x)[0]
    w1, w2 = torch.linspace(*W1), torch.linspace(*W2)
    grid = torch.cartesian_prod(w1, w2).T.tolist()
    p = value(net(*grid), x.expand(len(grid[0]), -1, -1), d).view(len(w1), len(w2)).T

    paths, rises = {}, []
    for name, move, size in (("every direction", look_around, STEP), ("gradient", follow, RATE)):
        one, paths[name] = net(*([w] for w in START)), []
        for _ in range(500):
            paths[name].append([t.item() for t in (*one.params.values(), value(one, x, d))])
            if paths[name][-1][2] > CLOSE:
                break
            rises.append(best_direction(one, x, d, direction))
            move(one, x, d, size)
    return (w1.numpy(), w2.numpy(), p.cpu().numpy()), paths, rises


def _draw_map(hill, paths):
    figure, axes = plot.panels(height=5.2)
    levels = [-3, -2.5, -2, -1.5, -1, -0.7, -0.5, -0.3, -0.15, -0.07, -0.03, -0.01, -0.003, -0.001, 0]
    shades = BoundaryNorm(levels, 256, extend="min")  # as many shades near the top as far below
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
