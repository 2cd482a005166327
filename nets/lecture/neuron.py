"""The lecture's neuron, and its trick with the threshold: a summer, a box, and a weight on −1."""

import torch

from nets.layers.base import Layer
from nets.layers.linear import Linear
from nets.lecture import plot
from nets.lecture.many import truth_table
from nets.lecture.result import Result


def fires(neuron: Layer, x) -> torch.Tensor:
    """The threshold box: all or none, and only above the threshold, Σ w·x − T > 0."""
    return neuron.forward(x)[0] > 0


def every_neuron(inputs: int, device, spread: int = 2):
    """All neurons with whole weights in ±spread and thresholds between: what each does (K, 2^inputs).

    Also the layer itself, one `Linear` output a neuron.
    """
    whole = torch.arange(-spread, spread + 1, device=device, dtype=torch.float64)
    limits = torch.arange(-spread * inputs, spread * inputs, device=device, dtype=torch.float64) + 0.5
    grid = torch.cartesian_prod(*[whole] * inputs, limits)
    layer = Linear(inputs, len(grid)).to(device, torch.float64)
    layer.params["weight"].copy_(grid[:, :-1])
    layer.params["bias"].copy_(-grid[:, -1])
    return fires(layer, truth_table(inputs, device)[0]).T, layer


def impossible(inputs: int, device) -> torch.Tensor:
    """Which of the 2^(2^inputs) truth tables no weights can give, with a proof for each: (tables).

    The proof: two inputs that must fire and two that must not, with the same sum. Added up,
    the first two would need w·(sum) > 2T and the other two w·(sum) ≤ 2T.
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
    """All or none, weights, cumulative influence: and which truth tables that is enough for."""
    can, cannot = {}, {}
    for n in sizes:
        does, _ = every_neuron(n, device)
        place = 2 ** torch.arange(2**n - 1, -1, -1, device=device)
        can[n] = set((does * place).sum(1).tolist())
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

    rows = [["inputs", "truth tables", "a neuron can", "proved impossible"]]
    rows += [[n, 2**2**n, len(can[n]), len(cannot[n])] for n in sizes]
    figures = {"truth_tables": rows, "inputs_on": list(range(10)), "output": answers, "threshold": limit}
    figures["impossible_with_two_inputs"] = [format(t, "04b") for t in sorted(cannot.get(2, ()))]
    return Result(
        "A neuron is a summer and a threshold box",
        "A neuron takes binary inputs, multiplies each by a <b>synaptic weight</b>, adds them up "
        "(<b>cumulative influence</b>), and fires <b>all or none</b>: 1 above a threshold, else 0.",
        "z = 1 if Σ<sub>i</sub> w<sub>i</sub>x<sub>i</sub> &gt; T, else 0",
        complete and cumulative and bool(cannot.get(2)),
        [
            (
                f"With two inputs a neuron can be {len(can.get(2, ()))} of the 16 truth tables. It cannot be "
                "exclusive or, nor its opposite: (0,1) and (1,0) add up to the same inputs as (0,0) and "
                "(1,1), so both pairs have the same sum: one pair would need it above 2T, the other at"
                " most 2T."
            ),
            f"Nine equal inputs with T = {limit}: no single one is enough, any five are.",
        ],
        figures,
        [("neuron", "All 16 truth tables of two inputs, and nine inputs at one neuron", _draw(can, figures))],
        rows,
        "The model leaves out a great deal: the <b>refractory period</b>, in which a neuron that has "
        "fired cannot fire again; <b>axonal bifurcation</b>, where a pulse may go down one branch and "
        "not the other; and <b>time patterns</b>, whatever the spacing of pulses may say. The lecture "
        "says so too, and goes on without them.",
    )


def _draw(can, figures):
    figure = plot.Figure(figsize=(6.4, 5.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.35, 1])
    names = (
        "never|and|x₁ and not x₂|x₁|x₂ and not x₁|x₂|xor|or|nor|same|not x₂|x₁ or not x₂|not x₁|x₂ or not"
        " x₁|nand|always"
    )
    for code, (axes, name) in enumerate(zip(above.subplots(2, 8).flat, names.split("|"))):
        able = code in can.get(2, ())
        for place in range(4):
            on = code >> (3 - place) & 1
            color = plot.BLUE if able else plot.RED
            axes.plot(place >> 1, place & 1, "o", ms=8, mfc=color if on else "white", mec=color, mew=1.5)
        axes.set(xlim=(-0.6, 1.6), ylim=(-0.6, 1.6), xticks=[], yticks=[], aspect="equal")
        name = name.replace(" and not ", "\nand not ").replace(" or not ", "\nor not ")
        axes.set_title(name, fontsize=10.5,
                       color="black" if able else plot.RED)  # fmt: skip
    above.supxlabel("x₁ to the right, x₂ upwards; filled: fires; red: no neuron can", fontsize=11)
    axes = below.subplots()
    axes.step(figures["inputs_on"], figures["output"], where="mid", color=plot.BLUE, lw=2)
    axes.axvline(figures["threshold"], color=plot.GREY, ls=":")
    axes.text(4.4, 0.5, f"T = {figures['threshold']}", ha="right", color=plot.GREY)
    axes.set(xlabel="inputs that are on, of nine", ylabel="output", yticks=[0, 1], xticks=range(10))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def threshold(seed: int = 0, device="cpu", most: int = 12, neurons: int = 200) -> Result:
    """A threshold is a weight like any other, so that learning has weights alone to change."""
    torch.manual_seed(seed)
    rows = [["inputs", "cases", "sum exactly at T", "answers that differ", "that would with ≥"]]
    for n in range(1, most + 1):
        with_t, without = (Linear(k, neurons).to(device, torch.float64) for k in (n, n + 1))
        with_t.params["weight"].copy_(torch.randint(-3, 4, (neurons, n)))  # whole: ties do come
        with_t.params["bias"].copy_(-torch.randint(-3, 4, (neurons,)))
        without.params["weight"][:, 1:] = with_t.params["weight"]
        without.params["weight"][:, 0] = -with_t.params["bias"]  # w0 = T
        without.params["bias"].zero_()
        x = truth_table(n, device)[0]
        always = torch.cat([-torch.ones_like(x[:, :1]), x], 1)  # x0 = −1
        one, other = fires(with_t, x), fires(without, always)
        ties = with_t.forward(x)[0] == 0
        rows.append(
            [
                n,
                x.shape[0] * neurons,
                int(ties.sum()),
                int((one != other).sum()),
                int(((one | ties) != other).sum()),
            ]
        )
    cases, ties, differ, loose = (sum(r[k] for r in rows[1:]) for k in range(1, 5))
    figure, (left, right) = plot.panels(2, 1, height=6.4)
    _line(left)
    size = [r[0] for r in rows[1:]]
    right.semilogy(size, [r[1] for r in rows[1:]], "o-", color=plot.BLUE, label="cases compared")
    right.semilogy(
        size,
        [max(r[2], 0.5) for r in rows[1:]],
        "s-",
        color=plot.GOLD,
        label="of them exactly at the threshold",
    )
    right.set(
        xlabel="inputs of the neuron",
        ylabel="number",
        xticks=size,
        title=f"{differ} of {cases:,} answers differ",
    )
    right.legend(frameon=False)
    return Result(
        "A threshold is one more weight",
        "Thresholds need no mathematics of their own: T is a weight w<sub>0</sub> = T on an input that is"
        " always −1.",
        "Σ<sub>i≥1</sub> w<sub>i</sub>x<sub>i</sub> &gt; T &nbsp;⇔&nbsp; Σ<sub>i≥0</sub>"
        " w<sub>i</sub>x<sub>i</sub> &gt; 0, with w<sub>0</sub> = T and x<sub>0</sub> = −1",
        differ == 0 and ties > 0 and loose == ties,
        [
            f"{neurons} random neurons of each size, every binary input: {cases:,} cases, {differ}"
            f" differences. In {ties:,} the sum is exactly at the threshold, and both forms stay silent"
            " there, as the lecture has it: a neuron fires only above."
        ],
        {"neurons_a_size": neurons, "rows": rows, "cases": cases, "ties": ties, "differ": differ},
        [("threshold", "The same line twice, and how many cases were compared", figure)],
        rows,
        "In this project's layers the threshold is the bias with its sign turned: b = −T.",
    )


def _line(axes):
    """w1 x1 + w2 x2 = T for an and-neuron: w = (1, 1), T = 1.5."""
    axes.plot([-0.2, 1.7], [1.7, -0.2], color=plot.RED, lw=2)
    axes.fill([1.7, 1.7, -0.2], [-0.2, 1.7, 1.7], color=plot.PALE)
    for x in (0, 1):
        for y in (0, 1):
            axes.plot(x, y, "o", ms=10, mfc=plot.BLUE if x and y else "white", mec=plot.BLUE, mew=2)
    axes.text(1.62, 1.55, "fires", ha="right", color=plot.BLUE, fontsize=11)
    axes.text(0.3, 0.42, "silent", color=plot.GREY, fontsize=11)
    axes.text(0.62, 1.12, "x₁ + x₂ − 1.5 = 0", color=plot.RED, fontsize=11, rotation=0)
    axes.set(
        xlim=(-0.2, 1.7),
        ylim=(-0.2, 1.7),
        aspect="equal",
        xlabel="x₁",
        ylabel="x₂",
        xticks=[0, 1],
        yticks=[0, 1],
    )
    axes.set_title("T = 1.5, or w₀ = 1.5 on an input of −1", fontsize=11)
