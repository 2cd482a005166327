"""Two changes that make hill climbing possible: a smooth box for the step, a smooth hill for the distance."""

import torch
from torch import Tensor

from nets.layers.activations import Sigmoid
from nets.lecture import plot
from nets.lecture.result import Result
from nets.losses import Performance


def sigmoid(seed: int = 0, device="cpu", points: int = 2001, box=Sigmoid) -> Result:
    """A step has slope 0 almost everywhere; the sigmoid's slope is β(1 − β), which is never 0."""
    a = torch.linspace(-10, 10, points, device=device, dtype=torch.float64) + 0.00123
    layer, h = box(), 1e-5

    def f(x):
        return layer.forward(x)[0]

    beta, saved = layer.forward(a)
    slope = layer.backward(saved, torch.ones_like(a))[0]
    measured = (f(a + h) - f(a - h)) / (2 * h)
    step = ((a + h > 0).double() - (a - h > 0).double()) / (2 * h)
    gap = (slope - measured).abs().max().item()
    few = slice(0, None, points // 40)
    figures = {
        "points": points,
        "step_flat_share": (step == 0).double().mean().item(),
        "sigmoid_flat_share": (slope == 0).double().mean().item(),
        "largest_gap_to_differences": gap,
        "largest_gap_to_formula": (slope - beta * (1 - beta)).abs().max().item(),
        "largest_slope": slope.max().item(),
        "slope_at_10": slope[-1].item(),
        "curves": {"alpha": a.tolist()[few], "beta": beta.tolist()[few], "slope": slope.tolist()[few]},
    }
    held = figures["step_flat_share"] == 1 and figures["sigmoid_flat_share"] == 0 and gap < 1e-9
    held = held and figures["largest_gap_to_formula"] < 1e-15
    return Result(
        "The step gives no slope, the sigmoid does",
        "Climbing along a slope needs a slope. A step is flat almost everywhere. The sigmoid is smooth, and"
        " its derivative needs only its own output.",
        "β = 1 / (1 + e<sup>−α</sup>), &nbsp; dβ/dα = β(1 − β)",
        held,
        [
            f"At {points:,} places between −10 and 10, the step's slope is 0 at"
            f" {figures['step_flat_share']:.0%} of the places, the sigmoid's at"
            f" {figures['sigmoid_flat_share']:.0%}. β(1 − β) and finite differences differ by at most"
            f" {gap:.1e}.",
            f"The slope is never more than {figures['largest_slope']:.2f}. At α = 10 it is only"
            f" {figures['slope_at_10']:.1e}: a neuron far above its threshold hardly learns.",
        ],
        figures,
        [("sigmoid", "Step and sigmoid, and their slopes", _draw_sigmoid(a, beta, slope, measured, few))],
    )


def _draw_sigmoid(a: Tensor, beta: Tensor, slope: Tensor, measured: Tensor, few: slice):
    x = a.tolist()
    figure, (above, below) = plot.panels(2, 1, height=6, sharex=True)
    figure.set_label(
        "Above: the step jumps from 0 to 1, the sigmoid rises smoothly. Below: the sigmoid's slope is"
        " a bell of height 0.25, and finite differences lie on it. The step's slope is 0."
    )
    above.plot(x, beta.tolist(), color=plot.BLUE, lw=2, label="sigmoid β")
    above.step(x, (a > 0).double().tolist(), color=plot.RED, lw=1.5, label="step")
    above.set(ylabel="output")
    below.plot(x, slope.tolist(), color=plot.BLUE, lw=2, label="β(1 − β), from backward")
    circles = dict(ms=5, mfc="none", color=plot.GOLD, label="finite differences")
    below.plot(x[few], measured.tolist()[few], "o", **circles)
    below.plot(x, [0.0] * len(x), color=plot.RED, lw=1.5, label="step's slope")
    below.set(xlabel="α: weighted sum minus threshold", ylabel="slope", ylim=(-0.01, 0.4))
    for axes in (above, below):
        axes.legend(frameon=False, loc="upper left")
    return figure


def performance(seed: int = 0, device="cpu", loss=Performance, steps: int = 40, rate: float = 0.3) -> Result:
    """Why −½‖d − z‖² and not the distance: at one rate, only the smooth hill leads to the top."""
    d = torch.tensor([1.0, 0.5], device=device, dtype=torch.float64)
    measure = loss()

    def p(z):
        return measure(z[None], d[None])

    gap = _gap_to_differences(p, seed, device)
    start = torch.tensor([-1.0, -0.6], device=device, dtype=torch.float64)
    hills = {
        "−‖d − z‖": lambda z: (d - z) / (d - z).norm().clamp(min=1e-300),
        "−‖d − z‖²": lambda z: 2 * (d - z),
        "−½‖d − z‖²": lambda z: p(z)[1][0],
    }
    distances = {}
    for name, slope in hills.items():
        z, distances[name] = start.clone(), []
        for _ in range(steps):
            distances[name].append((d - z).norm().item())
            z = z + rate * slope(z)
        distances[name].append((d - z).norm().item())
    end = {name: path[-1] for name, path in distances.items()}
    figures = {"largest_gap_to_differences": gap, "rate": rate, "distance_after": end, "distances": distances}
    figures["steps"] = steps
    return Result(
        "Performance: how good is the output?",
        "The distance between wanted and actual output says how bad the net is. Its square, halved and with a"
        " minus sign, is <b>mathematically convenient</b>.",
        "P = −½‖d − z‖<sup>2</sup>, &nbsp; ∂P/∂z = d − z",
        gap < 1e-8 and end["−½‖d − z‖²"] < 1e-5 < 0.01 < end["−‖d − z‖"],
        [
            f"The slope of P is d − z (largest difference from finite differences: {gap:.1e}). It has no"
            " root, no 2 and no corner.",
            f"Each measure was climbed for {steps} steps at rate {rate} from the same start. With P, z came"
            f" within {end['−½‖d − z‖²']:.1e} of the wanted output. The plain distance has slope 1"
            " everywhere, right up to a corner at the top. Its steps never get shorter and jump around the"
            f" goal: a distance of {end['−‖d − z‖']:.2f} is left. The minus sign makes P a hill to climb.",
        ],
        figures,
        [("performance", "Three measures, and the climb of each", _draw_performance(distances, rate))],
        note=(
            f"The squared distance without the half ends just as well ({end['−‖d − z‖²']:.1e}). The half only"
            " cancels the 2, and any rate constant could do that. It is a convenience, as the lecture says,"
            " and no more."
        ),
    )


def _gap_to_differences(p, seed: int, device, h: float = 1e-6) -> float:
    """The largest difference between the slope by hand and finite differences, at 50 random outputs."""
    torch.manual_seed(seed)
    gaps = []
    for z in torch.randn(50, 2, dtype=torch.float64).to(device):
        dz = p(z)[1][0]
        for k in range(2):
            e = torch.zeros_like(z)
            e[k] = h
            gaps.append(((p(z + e)[0] - p(z - e)[0]) / (2 * h) - dz[k]).abs())
    return torch.stack(gaps).max().item()


def _draw_performance(distances: dict[str, list[float]], rate: float):
    e = torch.linspace(-2, 2, 401, dtype=torch.float64)
    figure, (above, below) = plot.panels(2, 1, height=6.2)
    figure.set_label(
        "Above: the plain distance has a corner at the top, the two squared measures are round."
        " Below: the remaining distance by step falls along straight lines for the squares. For the"
        " plain distance it stops falling."
    )
    shapes = (-e.abs(), -(e**2), -(e**2) / 2)
    curves = zip(distances.items(), shapes, (plot.RED, plot.GOLD, plot.BLUE), ("-", "--", "-"))
    for (name, path), y, color, style in curves:
        above.plot(e.tolist(), y.tolist(), style, color=color, lw=2, label=name)
        below.semilogy([max(v, 1e-16) for v in path], style, color=color, lw=2, label=name)
    above.set(xlabel="z − d, one output", ylabel="measure", ylim=(-4, 0.2))
    below.set(xlabel=f"step, rate {rate}", ylabel="remaining distance to d")
    above.legend(frameon=False, loc="lower center")
    below.legend(frameon=False, loc="lower left")
    return figure
