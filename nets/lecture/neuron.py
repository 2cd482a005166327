"""The lecture's neuron, a summer and a threshold box, and its threshold as a weight on −1."""

import torch
from torch import Tensor

from nets.layers.base import Layer
from nets.layers.linear import Linear
from nets.lecture import plot
from nets.lecture.many import truth_table
from nets.lecture.result import Result


def fires(neuron: Layer, x: Tensor) -> Tensor:
    """The threshold box: all or none, and only above the threshold, Σ w·x − T > 0."""
    return neuron.forward(x)[0] > 0


def every_neuron(inputs: int, device, bound: int = 2) -> tuple[Tensor, Linear]:
    """All neurons with integer weights in ±bound and half-integer thresholds.

    Returns their outputs for all binary inputs, (K, 2^inputs), and the layer: one `Linear` output
    for each neuron.
    """
    integers = torch.arange(-bound, bound + 1, device=device, dtype=torch.float64)
    limits = torch.arange(-bound * inputs, bound * inputs, device=device, dtype=torch.float64) + 0.5
    grid = torch.cartesian_prod(*[integers] * inputs, limits)
    layer = Linear(inputs, len(grid)).to(device, torch.float64)
    layer.params["weight"].copy_(grid[:, :-1])
    layer.params["bias"].copy_(-grid[:, -1])
    return fires(layer, truth_table(inputs, device)[0]).T, layer


def impossible(inputs: int, device) -> Tensor:
    """For each of the 2^(2^inputs) truth tables: is there a proof that no weights give it? (tables).

    The proof is two inputs that must fire and two that must not, with the same sum. Added up, the
    first two would need w·(sum) > 2T and the other two w·(sum) ≤ 2T.
    """
    x = truth_table(inputs, device)[0]
    n = len(x)
    want = truth_table(n, device)[0].bool()  # (2^n, n): every truth table
    pairs = torch.cartesian_prod(*[torch.arange(n, device=device)] * 2)
    sums = x[pairs].sum(1)
    same = (sums[:, None] == sums[None]).all(2)  # (pairs, pairs)
    both, none = want[:, pairs].all(2), (~want[:, pairs]).all(2)  # (tables, pairs)
    return torch.einsum("tp,pq,tq->t", both.double(), same.double(), none.double()) > 0


def neuron(seed: int = 0, device="cpu", sizes=(1, 2, 3)) -> Result:
    """The lecture's neuron: all or none, weights, cumulative influence, and its truth tables."""
    can, cannot = {}, {}
    for n in sizes:
        outputs, _ = every_neuron(n, device)
        place = 2 ** torch.arange(2**n - 1, -1, -1, device=device)
        can[n] = set((outputs * place).sum(1).tolist())
        cannot[n] = set(impossible(n, device).nonzero()[:, 0].tolist())
    complete = all(not can[n] & cannot[n] and len(can[n] | cannot[n]) == 2**2**n for n in sizes)

    torch.manual_seed(seed)
    limit = 4.5
    crowd = Linear(9, 1).to(device, torch.float64)  # nine equal inputs: how many must be on?
    crowd.params["weight"].fill_(1.0)
    crowd.params["bias"].fill_(-limit)
    x = torch.tril(torch.ones(10, 9, device=device, dtype=torch.float64), -1)
    answers = fires(crowd, x)[:, 0].int().tolist()
    cumulative = answers == [0] * 5 + [1] * 5

    table: list[list] = [["inputs", "truth tables", "possible", "proved impossible"]]
    table += [[n, 2**2**n, len(can[n]), len(cannot[n])] for n in sizes]
    figures = {"truth_tables": table, "inputs_on": list(range(10)), "output": answers, "threshold": limit}
    figures["impossible_with_two_inputs"] = [format(t, "04b") for t in sorted(cannot.get(2, ()))]
    return Result(
        "A neuron is a summer and a threshold box",
        "A neuron takes binary inputs, multiplies each by a <b>synaptic weight</b>, and adds them up"
        " (<b>cumulative influence</b>). It fires <b>all or none</b>: its output is 1 above a threshold, and"
        " 0 otherwise.",
        "z = 1 if Σ<sub>i</sub> w<sub>i</sub>x<sub>i</sub> &gt; T, else 0",
        complete and cumulative and bool(cannot.get(2)),
        [
            f"With two inputs a neuron can compute {len(can.get(2, ()))} of the 16 truth tables. It cannot"
            " compute exclusive or, nor its opposite. The inputs (0,1) and (1,0) add up to the same as (0,0)"
            " and (1,1), so both pairs have the same total of weighted sums. One pair would need a total"
            " above 2T, the other a total of at most 2T.",
            f"Nine equal inputs have the threshold T = {limit}. A single input is not enough. Any five inputs"
            " are enough.",
        ],
        figures,
        [("neuron", "All 16 truth tables of two inputs, and a neuron with nine inputs", _draw(can, figures))],
        table,
        "The model leaves out a great deal. A real neuron has a <b>refractory period</b>: after it has fired,"
        " it cannot fire again for a while. It has <b>axonal bifurcation</b>: a pulse may go down one branch"
        " and not the other. It may use <b>time patterns</b>: the spacing of pulses may carry information."
        " The lecture says so too, and goes on without them.",
    )


def _draw(can, figures):
    figure = plot.Figure(figsize=(plot.WIDTH, 7.4), layout="constrained")
    figure.set_label(
        "Sixteen squares of four dots, one for each truth table of two inputs. Fourteen are blue: a"
        " neuron can compute them. Xor and same are red. Below: a neuron with nine inputs is off for"
        " up to four that are on, and on for five and more."
    )
    above, below = figure.subfigures(2, 1, height_ratios=[2.4, 1], squeeze=False)[:, 0]
    names = (
        "never|and|x₁ and not x₂|x₁|x₂ and not x₁|x₂|xor|or|nor|same|not x₂|x₁ or not x₂|not x₁|x₂ or not"
        " x₁|nand|always"
    )
    for code, (axes, name) in enumerate(zip(above.subplots(4, 4).flat, names.split("|"))):
        color = plot.BLUE if code in can.get(2, ()) else plot.RED
        for place in range(4):
            on = code >> (3 - place) & 1
            axes.plot(place >> 1, place & 1, "o", ms=8, mfc=color if on else "white", mec=color, mew=1.5)
        axes.set(xlim=(-0.6, 1.6), ylim=(-0.6, 1.6), xticks=[], yticks=[], aspect="equal")
        name = name.replace(" and not ", "\nand not ").replace(" or not ", "\nor not ")
        axes.set_title(name, fontsize=10.5, color="black" if color == plot.BLUE else plot.RED)
    above.supxlabel("x₁: right; x₂: up; filled: fires;\nred: impossible for a neuron", fontsize=11)
    axes = below.subplots()
    axes.step(figures["inputs_on"], figures["output"], where="mid", color=plot.BLUE, lw=2)
    axes.axvline(figures["threshold"], color=plot.GRAY, ls=":")
    axes.text(4.4, 0.5, f"T = {figures['threshold']}", ha="right", color=plot.GRAY)
    axes.set(xlabel="inputs that are on, of nine", ylabel="output", yticks=[0, 1], xticks=range(10))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def threshold(seed: int = 0, device="cpu", most: int = 12, neurons: int = 200) -> Result:
    """A threshold is a weight like any other, so learning only has to change weights."""
    torch.manual_seed(seed)
    table: list[list] = [["inputs", "cases", "sum exactly T", "different outputs", "different with ≥"]]
    table += [[n, *_compare_forms(n, neurons, device)] for n in range(1, most + 1)]
    cases, ties, differ, loose = (sum(row[k] for row in table[1:]) for k in range(1, 5))
    return Result(
        "A threshold is one more weight",
        "A threshold needs no mathematics of its own. T is a weight w<sub>0</sub> = T on an input that is"
        " always −1.",
        "Σ<sub>i≥1</sub> w<sub>i</sub>x<sub>i</sub> &gt; T &nbsp;⇔&nbsp; Σ<sub>i≥0</sub>"
        " w<sub>i</sub>x<sub>i</sub> &gt; 0, with w<sub>0</sub> = T and x<sub>0</sub> = −1",
        differ == 0 and ties > 0 and loose == ties,
        [
            f"{neurons} random neurons of each size saw every binary input: {cases:,} cases, {differ}"
            f" differences. In {ties:,} cases the sum is exactly at the threshold. Both forms stay silent"
            " there, as in the lecture: a neuron fires only above its threshold."
        ],
        {"neurons_a_size": neurons, "rows": table, "cases": cases, "ties": ties, "differ": differ},
        [("threshold", "One line in both forms, and the number of cases compared", _draw_threshold(table))],
        table,
        "In this project's layers the threshold is the bias with the opposite sign: b = −T.",
    )


def _compare_forms(inputs: int, neurons: int, device) -> tuple[int, int, int, int]:
    """(cases, sums exactly at T, different outputs, different outputs if the first form fired at T)."""
    with_t, without = (Linear(k, neurons).to(device, torch.float64) for k in (inputs, inputs + 1))
    with_t.params["weight"].copy_(torch.randint(-3, 4, (neurons, inputs)))  # integers, so that sums hit T
    with_t.params["bias"].copy_(-torch.randint(-3, 4, (neurons,)))
    without.params["weight"][:, 1:] = with_t.params["weight"]
    without.params["weight"][:, 0] = -with_t.params["bias"]  # w0 = T
    without.params["bias"].zero_()
    x = truth_table(inputs, device)[0]
    x0 = -torch.ones_like(x[:, :1])
    one, other = fires(with_t, x), fires(without, torch.cat([x0, x], 1))
    ties = with_t.forward(x)[0] == 0
    differ, loose = int((one != other).sum()), int(((one | ties) != other).sum())
    return x.shape[0] * neurons, int(ties.sum()), differ, loose


def _draw_threshold(table: list[list]):
    figure, (above, below) = plot.panels(2, 1, height=6.8)
    figure.set_label(
        "The line x₁ + x₂ = 1.5 separates the input (1, 1), which fires, from the three others."
        " Below: the number of compared cases by the number of inputs, on a logarithmic axis, and of"
        " those exactly at the threshold."
    )
    _draw_line(above)
    inputs, cases, ties, differ, _ = zip(*table[1:])
    below.semilogy(inputs, cases, "o-", color=plot.BLUE, label="cases compared")
    at_threshold = [max(n, 0.5) for n in ties]
    below.semilogy(inputs, at_threshold, "s-", color=plot.GOLD, label="cases exactly at the threshold")
    below.set(xlabel="inputs of the neuron", ylabel="number", xticks=inputs)
    below.set(title=f"{sum(differ)} of {sum(cases):,} outputs differ")
    below.legend(frameon=False)
    return figure


def _draw_line(axes):
    """w1 x1 + w2 x2 = T for an and-neuron: w = (1, 1), T = 1.5."""
    axes.plot([-0.2, 1.7], [1.7, -0.2], color=plot.RED, lw=2)
    axes.fill([1.7, 1.7, -0.2], [-0.2, 1.7, 1.7], color=plot.PALE)
    for x in (0, 1):
        for y in (0, 1):
            axes.plot(x, y, "o", ms=10, mfc=plot.BLUE if x and y else "white", mec=plot.BLUE, mew=2)
    axes.text(1.62, 1.55, "fires", ha="right", color=plot.BLUE, fontsize=11)
    axes.text(0.3, 0.42, "silent", color=plot.GRAY, fontsize=11)
    axes.text(0.62, 1.12, "x₁ + x₂ − 1.5 = 0", color=plot.RED, fontsize=11, rotation=0)
    axes.set(xlim=(-0.2, 1.7), ylim=(-0.2, 1.7), aspect="equal", xlabel="x₁", ylabel="x₂")
    axes.set(xticks=[0, 1], yticks=[0, 1])
    axes.set_title("T = 1.5, or w₀ = 1.5 on an input of −1", fontsize=11)
