"""The world's simplest net, by the chain rule: both derivatives, factor by factor, in numbers."""

import torch
from torch import Tensor

from nets.gradcheck import reference
from nets.layers.activations import Sigmoid
from nets.layers.containers import Sequential
from nets.layers.linear import Linear
from nets.lecture import plot
from nets.lecture.result import Result
from nets.losses import Performance


def simplest(w1: float, w2: float, device) -> Sequential:
    """x -> w1 -> σ -> y -> w2 -> σ -> z, without thresholds."""
    net = Sequential(Linear(1, 1, bias=False), Sigmoid(), Linear(1, 1, bias=False), Sigmoid())
    net.to(device, torch.float64)
    for name, w in (("0.weight", w1), ("2.weight", w2)):
        net.params[name].fill_(w)
    return net


def factors(w1, w2, x, d) -> dict[str, Tensor]:
    """The lecture's two products, factor by factor; w1, w2, x and d are tensors of one shape."""
    y = torch.sigmoid(w1 * x)
    z = torch.sigmoid(w2 * y)
    parts = {"d − z": d - z, "z(1 − z)": z * (1 - z), "y": y, "w2": w2, "y(1 − y)": y * (1 - y), "x": x}
    common = parts["d − z"] * parts["z(1 − z)"]
    return parts | {"dP/dw2": common * y, "dP/dw1": common * w2 * parts["y(1 − y)"] * x, "z": z}


def two_weight(seed: int = 0, device="cpu", draws: int = 200, product=factors) -> Result:
    """∂P/∂w1 and ∂P/∂w2 four ways: the products, backward, autograd, finite differences."""
    torch.manual_seed(seed)
    scale, offset = (torch.tensor(v, dtype=torch.float64) for v in ([6.0, 6, 4, 1], [3.0, 3, 2, 0]))
    cases = torch.rand(draws, 4, dtype=torch.float64) * scale - offset
    cases[0] = cases.new_tensor([0.8, -1.5, 1.0, 0.9])  # the net in the picture
    parts = product(*cases.to(device).T)
    measured = zip(*(_three_ways(w1, w2, x, d, device) for w1, w2, x, d in cases.tolist()))
    ways = {"product": torch.stack([parts["dP/dw1"], parts["dP/dw2"]], 1)}
    ways |= {name: torch.stack(v) for name, v in zip(("backward", "autograd", "differences"), measured)}
    size = ways["autograd"].abs().amax(1, keepdim=True)
    gaps = {name: ((v - ways["autograd"]).abs() / size).max().item() for name, v in ways.items()}
    shown = _shown(cases, parts)
    table = [["", "∂P/∂w₁", "∂P/∂w₂"]] + [[name, *v[0].tolist()] for name, v in ways.items()]
    figures = {"cases": draws, "largest_relative_gap_to_autograd": gaps, "shown": shown, "four_ways": table}
    del gaps["autograd"]
    dw2 = "∂P/∂w₂ = {d − z:.4f} × {z(1 − z):.4f} × {y:.4f} = <b>{dP/dw2:.5f}</b>."
    dw1 = "∂P/∂w₁ = {d − z:.4f} × {z(1 − z):.4f} × ({w2:.4f}) × {y(1 − y):.4f} × {x:.4f}"
    dw1 += " = <b>{dP/dw1:.5f}</b>. The first two factors are the same in both. They are computed once."
    return Result(
        "Two weights and the chain rule",
        "P depends on z, z on the product w<sub>2</sub>·y, and so on back to each weight. The derivatives are"
        " products along that chain. All their factors are known from forward.",
        "∂P/∂w<sub>2</sub> = (d−z) · z(1−z) · y<br>∂P/∂w<sub>1</sub> = (d−z) · z(1−z) · w<sub>2</sub> ·"
        " y(1−y) · x",
        gaps["product"] < 1e-12 and gaps["backward"] < 1e-12 and gaps["differences"] < 1e-6,
        [
            "In the picture: " + dw2.format(**shown),
            dw1.format(**shown),
            f"Over {draws} random nets, the products differ from autograd by at most"
            f" {gaps['product']:.0e} of the gradient, the net's own backward by {gaps['backward']:.0e}, and"
            f" finite differences by {gaps['differences']:.0e}.",
        ],
        figures,
        [("two-weight", "Forward in blue, backward in red", _draw(shown))],
        table,
    )


def _three_ways(w1: float, w2: float, x: float, d: float, device) -> tuple[Tensor, Tensor, Tensor]:
    """(∂P/∂w1, ∂P/∂w2) by backward, by autograd and by finite differences, (2) each."""
    net, loss, h = simplest(w1, w2, device), Performance(), 1e-5
    inputs = torch.tensor([[x]], device=device, dtype=torch.float64)
    wanted = torch.full_like(inputs, d)

    def p(a, b):
        return loss(simplest(w1 + a, w2 + b, device).forward(inputs)[0], wanted)[0]

    z, saved = net.forward(inputs)
    grads = net.backward(saved, loss(z, wanted)[1])[1]
    oracle = reference.differentiate(net, inputs, objective=lambda z: loss.torch_loss(z, wanted)).grads
    backward, autograd = (torch.cat([g["0.weight"], g["2.weight"]]).flatten() for g in (grads, oracle))
    return backward, autograd, torch.stack([p(h, 0) - p(-h, 0), p(0, h) - p(0, -h)]) / (2 * h)


def _shown(cases: Tensor, parts: dict[str, Tensor]) -> dict[str, float]:
    """Every value and slope in the first net, for the picture."""
    v = {name: part[0].item() for name, part in parts.items()}
    v |= {"w1": cases[0, 0].item(), "d": cases[0, 3].item()}
    shown = v | {"p1": v["w1"] * v["x"], "p2": v["w2"] * v["y"], "P": -0.5 * v["d − z"] ** 2}
    shown["dP/dp2"] = v["d − z"] * v["z(1 − z)"]
    shown["dP/dy"] = shown["dP/dp2"] * v["w2"]
    shown["dP/dp1"] = shown["dP/dy"] * v["y(1 − y)"]
    return shown


def _draw(v: dict[str, float]):
    """The net as a row of boxes: values above the line (forward), slopes below it (backward)."""
    figure = plot.Figure(figsize=(plot.WIDTH, 4.1), layout="constrained")
    figure.set_label(
        "A row of boxes: times w₁, sigmoid, times w₂, sigmoid, P. Above it, from left to right, the"
        " values of forward. Below it, from right to left, the slopes of backward and the factor of"
        " each box, and at the two weights their derivatives."
    )
    axes = figure.subplots()
    axes.set(xlim=(-0.4, 10.6), ylim=(-3.3, 2.8))
    axes.axis("off")
    dz, dp2, dy, dp1 = v["d − z"], v["dP/dp2"], v["dP/dy"], v["dP/dp1"]
    boxes = [
        (1.6, f"× w₁\n{v['w1']:.1f}"),
        (3.6, "σ"),
        (5.6, f"× w₂\n{v['w2']:.1f}"),
        (7.6, "σ"),
        (9.5, f"P\nd = {v['d']:.1f}"),
    ]
    axes.plot([-0.2, 9.5], [0, 0], color=plot.GRAY, lw=1.5, zorder=0)
    for x, text in boxes:
        face = dict(boxstyle="round,pad=0.35", fc=plot.PALE, ec=plot.GRAY)
        axes.text(x, 0, text, ha="center", va="center", fontsize=10.5, bbox=face)
    wires = [(0.3, "x", v["x"], None), (2.6, "p₁", v["p1"], dp1), (4.6, "y", v["y"], dy)]
    wires += [(6.6, "p₂", v["p2"], dp2), (8.45, "z", v["z"], dz)]
    for x, name, value, slope in wires:
        axes.text(x, 0.85, f"{name}\n{value:.3f}", ha="center", va="bottom", fontsize=10, color=plot.BLUE)
        if slope is not None:
            axes.text(x, -0.8, f"{slope:.4f}", ha="center", va="top", fontsize=10, color=plot.RED)
    axes.text(10.05, 0.85, f"P\n{v['P']:.3f}", ha="center", va="bottom", fontsize=10, color=plot.BLUE)
    steps = [(3.6, "× y(1−y)"), (5.6, "× w₂"), (7.6, "× z(1−z)"), (9.5, "d − z")]
    for x, text in steps:
        axes.text(x, -1.35, text, ha="center", va="top", fontsize=10, color=plot.RED)
    axes.text(5.5, 2.45, "forward", ha="center", fontsize=11, color=plot.BLUE)
    axes.text(8.6, -2.45, "backward", ha="center", fontsize=11, color=plot.RED)
    axes.annotate("", (0.9, -1.95), (10, -1.95), arrowprops=dict(arrowstyle="->", color=plot.RED))
    axes.annotate("", (10, 2.2), (0.9, 2.2), arrowprops=dict(arrowstyle="->", color=plot.BLUE))
    for x, text in (
        (1.6, f"∂P/∂w₁ =\n{dp1:.4f} · x\n= {v['dP/dw1']:.4f}"),
        (5.6, f"∂P/∂w₂ =\n{dp2:.4f} · y\n= {v['dP/dw2']:.4f}"),
    ):
        axes.text(x, -2.15, text, ha="center", va="top", fontsize=10, color=plot.RED)
    for text in axes.texts:
        text.set_text(text.get_text().replace("-", "−"))
    return figure
