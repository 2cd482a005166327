"""The world's simplest net, by the chain rule: every factor of both derivatives in numbers."""

import torch

from nets.gradcheck import reference as twin
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


def factors(w1, w2, x, d) -> dict[str, torch.Tensor]:
    """The lecture's two products, factor by factor; w1, w2, x and d are tensors of one shape."""
    y = torch.sigmoid(w1 * x)
    z = torch.sigmoid(w2 * y)
    parts = {"d − z": d - z, "z(1 − z)": z * (1 - z), "y": y, "w2": w2, "y(1 − y)": y * (1 - y), "x": x}
    common = parts["d − z"] * parts["z(1 − z)"]
    return parts | {"dP/dw2": common * y, "dP/dw1": common * w2 * parts["y(1 − y)"] * x, "z": z}


def two_weight(seed: int = 0, device="cpu", draws: int = 200, product=factors) -> Result:
    """∂P/∂w1 and ∂P/∂w2 four ways: by the products, by backward, by autograd, by differences."""
    torch.manual_seed(seed)
    cases = torch.rand(draws, 4, dtype=torch.float64) * torch.tensor([6.0, 6, 4, 1]) - torch.tensor(
        [3.0, 3, 2, 0]
    )
    cases[0] = cases.new_tensor([0.8, -1.5, 1.0, 0.9])  # the one that is shown
    parts = product(*cases.to(device).T)
    ways = {"product": torch.stack([parts["dP/dw1"], parts["dP/dw2"]], 1)}
    ways |= {"backward": [], "autograd": [], "differences": []}
    loss = Performance()
    for w1, w2, x, d in cases.tolist():
        net, x = simplest(w1, w2, device), torch.tensor([[x]], device=device, dtype=torch.float64)
        d = torch.full_like(x, d)
        z, saved = net.forward(x)
        grads = net.backward(saved, loss(z, d)[1])[1]
        oracle = twin.differentiate(net, x, objective=lambda z: loss.torch_loss(z, d)).grads
        for way, found in (("backward", grads), ("autograd", oracle)):
            ways[way].append(torch.cat([found["0.weight"], found["2.weight"]]).flatten())

        def p(a, b):
            return loss(simplest(w1 + a, w2 + b, device).forward(x)[0], d)[0]

        h = 1e-5
        ways["differences"].append(torch.stack([p(h, 0) - p(-h, 0), p(0, h) - p(0, -h)]) / (2 * h))
    ways = {name: v if name == "product" else torch.stack(v) for name, v in ways.items()}
    size = ways["autograd"].abs().amax(1, keepdim=True)
    gaps = {name: ((v - ways["autograd"]).abs() / size).max().item() for name, v in ways.items()}
    v = {name: part[0].item() for name, part in parts.items()}
    v |= {"w1": cases[0, 0].item(), "d": cases[0, 3].item()}
    shown = v | {"p1": v["w1"] * v["x"], "p2": v["w2"] * v["y"], "P": -0.5 * v["d − z"] ** 2}
    shown["dP/dp2"] = v["d − z"] * v["z(1 − z)"]
    shown["dP/dy"] = shown["dP/dp2"] * v["w2"]
    shown["dP/dp1"] = shown["dP/dy"] * v["y(1 − y)"]
    table = [["", "∂P/∂w₁", "∂P/∂w₂"]] + [[name, *v[0].tolist()] for name, v in ways.items()]
    figures = {"cases": draws, "largest_relative_gap_to_autograd": gaps, "shown": shown, "four_ways": table}
    del gaps["autograd"]
    return Result(
        "Two weights and the chain rule",
        "P depends on z, z on the product w<sub>2</sub>·y, and so on back to each weight: the derivatives are"
        " products along that chain, and everything in them is already known from going forward.",
        "∂P/∂w<sub>2</sub> = (d−z) · z(1−z) · y<br>∂P/∂w<sub>1</sub> = (d−z) · z(1−z) · w<sub>2</sub> ·"
        " y(1−y) · x",
        gaps["product"] < 1e-12 and gaps["backward"] < 1e-12 and gaps["differences"] < 1e-6,
        [
            "In the picture: ∂P/∂w₂ = {d − z:.4f} × {z(1 − z):.4f} × {y:.4f} = <b>{dP/dw2:.5f}</b>.".format(
                **shown
            ),
            "∂P/∂w₁ = {d − z:.4f} × {z(1 − z):.4f} × ({w2:.4f}) × {y(1 − y):.4f} × {x:.4f} ="
            " <b>{dP/dw1:.5f}</b>. The first two factors are the same: they are worked out once.".format(
                **shown
            ),
            (
                f"Over {draws} random nets the products and the net's own backward differ from autograd by at"
                f" most {gaps['product']:.0e} and {gaps['backward']:.0e} of the gradient, finite differences"
                f" by {gaps['differences']:.0e}."
            ),
        ],
        figures,
        [("two-weight", "Forward in blue, backward in red", _draw(shown))],
        table,
    )


def _draw(v):
    """The net as a row of boxes: values forward above the line, slopes backward below."""
    figure = plot.Figure(figsize=(6.4, 3.9), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-0.5, 10.5), ylim=(-3.1, 2.8))
    axes.axis("off")
    p1, p2, loss = v["p1"], v["p2"], v["P"]
    dz, dp2, dy, dp1 = v["d − z"], v["dP/dp2"], v["dP/dy"], v["dP/dp1"]
    boxes = [
        (1.6, f"× w₁\n{v['w1']:.1f}"),
        (3.6, "σ"),
        (5.6, f"× w₂\n{v['w2']:.1f}"),
        (7.6, "σ"),
        (9.5, f"P\nd = {v['d']:.1f}"),
    ]
    axes.plot([-0.2, 9.5], [0, 0], color=plot.GREY, lw=1.5, zorder=0)
    for x, text in boxes:
        face = dict(boxstyle="round,pad=0.35", fc=plot.PALE, ec=plot.GREY)
        axes.text(x, 0, text, ha="center", va="center", fontsize=12, bbox=face)
    wires = [(0.3, "x", v["x"], None), (2.6, "p₁", p1, dp1), (4.6, "y", v["y"], dy), (6.6, "p₂", p2, dp2)]
    for x, name, value, slope in [*wires, (8.6, "z", v["z"], dz)]:
        axes.text(x, 0.85, f"{name}\n{value:.3f}", ha="center", va="bottom", fontsize=11, color=plot.BLUE)
        if slope is not None:
            axes.text(x, -0.8, f"{slope:.4f}", ha="center", va="top", fontsize=11, color=plot.RED)
    axes.text(9.9, 0.85, f"P\n{loss:.3f}", ha="center", va="bottom", fontsize=11, color=plot.BLUE)
    steps = [(3.6, "× y(1−y)"), (5.6, "× w₂"), (7.6, "× z(1−z)"), (9.5, "d − z")]
    for x, text in steps:
        axes.text(x, -1.35, text, ha="center", va="top", fontsize=10.5, color=plot.RED)
    axes.text(5.5, 2.45, "forward", ha="center", fontsize=11, color=plot.BLUE)
    axes.text(8.6, -2.45, "backward", ha="center", fontsize=11, color=plot.RED)
    axes.annotate("", (0.9, -1.95), (10, -1.95), arrowprops=dict(arrowstyle="->", color=plot.RED))
    axes.annotate("", (10, 2.2), (0.9, 2.2), arrowprops=dict(arrowstyle="->", color=plot.BLUE))
    for x, text in (
        (1.6, f"∂P/∂w₁ = {dp1:.4f} · x\n= {v['dP/dw1']:.4f}"),
        (5.6, f"∂P/∂w₂ = {dp2:.4f} · y\n= {v['dP/dw2']:.4f}"),
    ):
        axes.text(x, -2.15, text, ha="center", va="top", fontsize=11, color=plot.RED)
    for text in axes.texts:
        text.set_text(text.get_text().replace("-", "−"))
    return figure
