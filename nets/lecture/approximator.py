"""A net is a function approximator: one input and one output, fitted by the project's own train step."""

import math

import torch
from torch import Tensor
from tqdm import tqdm

from nets.layers.activations import Sigmoid
from nets.layers.containers import Sequential
from nets.layers.linear import Linear
from nets.lecture import plot
from nets.lecture.result import Result
from nets.losses import Performance
from nets.optim.adaptive import Adaptive
from nets.training.step import train_step

FUNCTIONS = {
    "sin 3x": lambda x: torch.sin(3 * x),
    "|x|": torch.abs,
    "a bump": lambda x: torch.exp(-8 * x * x),
    "a box": lambda x: (x.abs() < 1).to(x.dtype),
}
SNAPSHOTS = (0, 30, 300)  # steps after which the net is drawn, and at the end


def approximator(
    seed: int = 0, device="cpu", hidden: int = 20, steps: int = 2500, functions=FUNCTIONS, rate: float = 0.01
) -> Result:
    """A layer of sigmoids and a weighted sum, fitted to four functions and drawn while it learns."""
    x = torch.linspace(-2, 2, 101, device=device, dtype=torch.float64)[:, None]
    table: list[list] = [
        ["function", "share explained", "largest error", "straight line explains", "z(10)", "wanted at 10"]
    ]
    drawn, explained = {}, {}
    bar = tqdm(total=steps * len(functions), desc="approximator", disable=None, leave=False)
    for name, f in functions.items():
        torch.manual_seed(seed)
        d = f(x)
        net = Sequential(Linear(1, hidden, init_bound=4.0), Sigmoid(), Linear(hidden, 1))
        net.to(device, torch.float64)
        snapshots = _fit(net, x, d, rate, steps, bar)
        z = net.forward(x)[0]
        snapshots[steps] = z[:, 0].tolist()
        line = (x * d).sum() / (x * x).sum() * x + d.mean()
        explained[name] = _explained(z, d)
        far = torch.full_like(x[:1], 10.0)
        table.append(
            [name, _percent(explained[name]), (z - d).abs().max().item(), f"{_explained(line, d):.1%}"]
            + [t.item() for t in (net.forward(far)[0], f(far))]
        )
        drawn[name] = (x[:, 0].tolist(), d[:, 0].tolist(), snapshots)
    bar.close()
    curves = {name: {str(k): z for k, z in snapshots.items()} for name, (_, _, snapshots) in drawn.items()}
    figures = {"hidden": hidden, "steps": steps, "explained": explained, "table": table, "curves": curves}
    return Result(
        "A net is a function approximator",
        "The output of a net is a function of its inputs and its weights. Learning chooses the weights so"
        " that the function comes near a wanted one.",
        "z = f(x, w), &nbsp; P = −½ Σ<sub>x</sub> (d(x) − f(x, w))<sup>2</sup>",
        min(explained.values()) > 0.95,
        [
            f"The net has one input, {hidden} sigmoids and one weighted sum. After {steps:,} steps it"
            " explains "
            + ", ".join(f"{_percent(share)} of {name}" for name, share in explained.items())
            + ". The net is the same for all four functions. Only the weights differ. (These are shares of"
            " the variance. The claim counts as held above 95% each.)",
        ],
        figures,
        [("approximator", "Four functions and the net, as it learns", _draw(drawn))],
        table,
        "The net comes near the function where it saw samples, from −2 to 2. Outside it may be anything: see"
        " the last two columns.",
    )


def _fit(net: Sequential, x: Tensor, d: Tensor, rate: float, steps: int, bar) -> dict[int, list[float]]:
    """Train the net on (x, d); its outputs at the SNAPSHOTS."""
    # the edges of the box need very different rates, hence no max_ratio
    optimizer = Adaptive(net.params, rate, max_ratio=math.inf, maximize=True)
    step, snapshots = train_step(net, Performance(), optimizer), {}
    for k in range(steps):
        if k in SNAPSHOTS:
            snapshots[k] = net.forward(x)[0][:, 0].tolist()
        step(x, d, 1.0)
        bar.update()
    optimizer.restore_best()
    return snapshots


def _explained(z: Tensor, d: Tensor) -> float:
    """The share of d's variance that z explains."""
    variance = (d - d.mean()).square().sum()
    return (1 - (z - d).square().sum() / variance).item()


def _percent(share: float) -> str:
    """As a percentage, rounded down: only 1 gives 100.00%."""
    return f"{math.floor(1e4 * share) / 100:.2f}%"


def _draw(drawn):
    figure, axes = plot.panels(len(drawn), 1, height=2.6 * len(drawn), sharex=True, squeeze=False)
    figure.set_label(
        f"{', '.join(drawn)}: each as a broad gray line, with the net's output at the start and after"
        " more and more steps. At the end the net's line lies on the gray one."
    )
    for a, (name, (x, d, snapshots)) in zip(axes[:, 0], drawn.items()):
        a.plot(x, d, color="black", lw=5, alpha=0.18, label="wanted")
        for (k, z), color in zip(snapshots.items(), ("#c9c9c9", plot.GOLD, plot.GREEN, plot.RED)):
            a.plot(x, z, color=color, lw=1.6, label=f"after {k:,} steps" if k else "at the start")
        a.set(title=name, ylabel="z", ylim=(min(d) - 0.5, max(d) + 0.5))
    lines, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=10)
    axes[-1, 0].set(xlabel="x")
    return figure
