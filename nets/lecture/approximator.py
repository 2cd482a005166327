"""A net is a function approximator: one input, one output, fitted by the project's own train step."""

import math

import torch
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
LOOKS = (0, 30, 300)  # and at the end


def approximator(
    seed: int = 0, device="cpu", hidden: int = 20, steps: int = 2500, functions=FUNCTIONS, rate: float = 0.01
) -> Result:
    """A layer of sigmoids and a weighted sum, fitted to a few functions: drawn while it learns."""
    x = torch.linspace(-2, 2, 101, device=device, dtype=torch.float64)[:, None]
    table, drawn, explained = (
        [["function", "share explained", "largest error", "straight line explains", "z(10)", "wanted at 10"]],
        {},
        {},
    )
    bar = tqdm(total=steps * len(functions), desc="approximator", disable=None, leave=False)
    for name, f in functions.items():
        torch.manual_seed(seed)
        d = f(x)
        net = Sequential(Linear(1, hidden, init_bound=4.0), Sigmoid(), Linear(hidden, 1)).to(
            device, torch.float64
        )
        optimizer = Adaptive(net.params, rate, max_ratio=math.inf, maximize=True)  # an edge needs its own rates
        step, looks = train_step(net, Performance(), optimizer), {}
        for k in range(steps):
            if k in LOOKS:
                looks[k] = net.forward(x)[0][:, 0].tolist()
            step(x, d, 1.0)
            bar.update()
        optimizer.restore_best()
        z = net.forward(x)[0]
        looks[steps] = z[:, 0].tolist()
        spread = (d - d.mean()).square().sum()
        line = (x * d).sum() / (x * x).sum() * x + d.mean()
        explained[name] = (1 - (z - d).square().sum() / spread).item()
        far = torch.full_like(x[:1], 10.0)
        straight = (1 - (line - d).square().sum() / spread).item()
        table.append(
            [name, _share(explained[name]), (z - d).abs().max().item(), f"{straight:.1%}"]
            + [t.item() for t in (net.forward(far)[0], f(far))]
        )
        drawn[name] = (x[:, 0].tolist(), d[:, 0].tolist(), looks)
    bar.close()
    figures = {"hidden": hidden, "steps": steps, "explained": explained, "table": table, "curves": {
        name: {str(k): look for k, look in looks.items()} for name, (_, _, looks) in drawn.items()
    }}  # fmt: skip
    return Result(
        "A net is a function approximator",
        "The output of a net is a function of its inputs and its weights; learning picks the weights so that"
        " it comes near a wanted function.",
        "z = f(x, w), &nbsp; P = −½ Σ<sub>x</sub> (d(x) − f(x, w))<sup>2</sup>",
        min(explained.values()) > 0.95,
        [
            f"One input, {hidden} sigmoids, one weighted sum, {steps:,} steps: the net explains "
            + ", ".join(f"{_share(share)} of {name}" for name, share in explained.items())
            + ". One net, four functions: only the weights differ. (Shares of the variance; the claim counts"
            " as held above 95% each.)",
        ],
        figures,
        [("approximator", "Four functions and the net, as it learns", _draw(drawn))],
        table,
        "It comes near where it was shown samples, from −2 to 2. Beyond, it may be anything: see the last two"
        " columns.",
    )


def _share(share: float) -> str:
    """As a percentage, rounded down: 100% is said of nothing less."""
    return f"{math.floor(1e4 * share) / 100:.2f}%"


def _draw(drawn):
    figure, axes = plot.panels(len(drawn), 1, height=2.6 * len(drawn), sharex=True, squeeze=False)
    for a, (name, (x, d, looks)) in zip(axes[:, 0], drawn.items()):
        a.plot(x, d, color="black", lw=5, alpha=0.18, label="wanted")
        for (k, z), color in zip(looks.items(), ("#c9c9c9", plot.GOLD, plot.GREEN, plot.RED)):
            a.plot(x, z, color=color, lw=1.6, label=f"after {k:,} steps" if k else "at the start")
        a.set(title=name, ylabel="z", ylim=(min(d) - 0.5, max(d) + 0.5))
    lines, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=10)
    axes[-1, 0].set(xlabel="x")
    return figure
