"""What the links between nodes are for: equal starts never part, and without cross links nothing mixes."""

import torch
from tqdm import tqdm

from nets.lecture import plot
from nets.lecture.many import SOLVED, band, chain, rows, slopes, train, truth_table
from nets.lecture.result import Result
from nets.optim.sgd import SGD


def xor(x):
    """Wanted: one output, 1 where just one of the two inputs is on. x (1, 4, 2) -> (1, 4, 1)."""
    return (x.sum(2, keepdim=True) == 1).to(x.dtype)


def _curves(net, x, d, rate: float, passes: int, name: str, watch=lambda net: None):
    """Train on all samples at once; every net's largest error after each pass, (passes + 1, S)."""
    optimizer, errors = SGD(net.params, rate, maximize=True), []
    for _ in tqdm(range(passes + 1), name, disable=None, leave=False):
        _, z, grads = slopes(net, x, d)
        errors.append((z - d).abs().amax((1, 2)))
        watch(net)
        optimizer.step(grads)
    return torch.stack(errors)


def symmetry(seed: int = 0, device="cpu", starts: int = 200, passes: int = 3000, equal=None) -> Result:
    """Two hidden nodes that start alike get the same gradient, and so stay one node for ever."""
    torch.manual_seed(seed)
    x = truth_table(2, device)
    d = xor(x)
    x, d = (t.expand(starts, -1, -1) for t in (x, d))
    scattered = chain(starts, (2, 2, 1), device)
    alike = rows(chain(starts, (2, 2, 1), device), equal or (lambda t: t[:, :1, :1].expand_as(t).clone()))
    apart = torch.zeros((), device=device, dtype=torch.float64)

    def watch(net):  # how far the two hidden nodes are from being the same to the last bit
        into, threshold, out = (net.params[k] for k in ("0.weight", "0.bias", "2.weight"))
        for t, dim in ((into, 1), (threshold, 2), (out, 2)):
            one, other = t.unbind(dim)
            apart.copy_(torch.maximum(apart, (one - other).abs().max()))

    errors = {"all weights equal": _curves(alike, x, d, 2.0, passes, "symmetry, equal", watch)}
    largest = apart.item()
    errors["random weights"] = _curves(scattered, x, d, 2.0, passes, "symmetry, random")
    solved = {name: (e[-1] < SOLVED).double().mean().item() for name, e in errors.items()}
    quantiles = torch.tensor([0.1, 0.5, 0.9], device=device, dtype=torch.float64)
    lines = {name: torch.quantile(e, quantiles, dim=1).tolist() for name, e in errors.items()}
    figures = {
        "starts": starts,
        "passes": passes,
        "rate": 2.0,
        "largest_difference_of_equal_nodes": largest,
        "share_that_learnt": solved,
        "largest_error_10_50_90_percent": lines,
        "lowest_error_of_equal_starts": errors["all weights equal"].min().item(),
    }
    figure, axes = plot.panels(height=4)
    for (name, line), color, pale in zip(lines.items(), (plot.RED, plot.BLUE), ("#f3d9dc", plot.PALE)):
        axes.fill_between(range(passes + 1), line[0], line[2], color=pale)
        axes.plot(line[1], color=color, lw=2, label=f"{name}: {solved[name]:.0%} learn it")
    axes.axhline(SOLVED, color=plot.GREY, ls=":", lw=0.8)
    axes.set(xlabel="passes over the four samples", ylabel="largest error", ylim=(0, 1))
    axes.legend(frameon=False, loc="upper right")
    return Result(
        "Equal starts stay equal",
        "If all weights start the same, the nodes of a layer get the same gradient and stay the same: break"
        " the symmetry, start at random.",
        "w<sub>i</sub> = w<sub>j</sub> ⇒ ∂P/∂w<sub>i</sub> = ∂P/∂w<sub>j</sub> ⇒ w<sub>i</sub> ="
        " w<sub>j</sub> after the step",
        largest == 0 and solved["all weights equal"] == 0 and solved["random weights"] > 0.25,
        [
            (
                f"Exclusive or, two hidden nodes, {starts} nets of each kind. Started with all weights of a"
                f" layer equal, the two nodes were identical to the last bit in all {passes:,} steps (largest"
                f" difference {largest:g}), and {solved['all weights equal']:.0%} learnt it. Started at"
                f" random, {solved['random weights']:.0%} did."
            ),
            (
                "Two identical nodes are as good as one, and one neuron cannot be exclusive or, as the first"
                " experiment shows."
            ),
        ],
        figures,
        [("symmetry", "Largest error: median, and 10–90% of the starts", figure)],
        note=(
            "Random starts break the symmetry, but don't always lead to the goal: the others were still"
            f" creeping along a plateau after {passes:,} steps."
        ),
    )


def wanted(tables: torch.Tensor, device) -> torch.Tensor:
    """Truth tables of two inputs, as numbers 0 to 15 (T) -> what to answer to the four inputs (T, 4)."""
    return truth_table(4, device)[0][tables]


def cross(
    seed: int = 0, device="cpu", starts: int = 20, passes: int = 1500, rate: float = 4.0, links: bool = True
) -> Result:
    """All 256 tasks of two outputs, for nets with cross connections and for nets without."""
    torch.manual_seed(seed)
    x = truth_table(2, device)
    tables = torch.arange(16, device=device)
    tasks = torch.cartesian_prod(tables, tables)  # first output's, second output's
    d = wanted(tasks, device).transpose(1, 2)  # (256, 4, 2)
    own = tasks.new_tensor([0, 3, 12, 15]), tasks.new_tensor([0, 5, 10, 15])  # of x1 alone, of x2 alone
    possible = (torch.isin(tasks[:, 0], own[0]) & torch.isin(tasks[:, 1], own[1])).view(16, 16)

    many = d.repeat_interleave(starts, 0)
    rates = torch.full((len(many),), rate, device=device, dtype=torch.float64)
    both = chain(len(many), (2, 2, 2) if links else (2, 1, 2), device)
    with_links = train(both, x, many, rates, passes, name="cross")
    # without cross connections it is two of the simplest nets, each with one input and one output
    apart = chain(2 * len(many), (1, 1, 1), device)
    split_x = x.expand(len(many), -1, -1).transpose(1, 2).reshape(-1, 4, 1)
    split_d = many.transpose(1, 2).reshape(-1, 4, 1)
    halves = train(apart, split_x, split_d, rates.repeat_interleave(2), passes, name="no cross").view(-1, 2)
    without = torch.where((halves == 0).any(1), 0, halves.amax(1))

    share = {
        name: (p.view(16, 16, starts) > 0).double().mean(2).cpu()
        for name, p in (("with", with_links), ("without", without))
    }
    learnt = {name: int((s > 0).sum()) for name, s in share.items()}
    exact = bool(((share["without"] > 0) == possible.cpu()).all())
    more = bool((share["with"] > 0)[possible.cpu()].all()) and learnt["with"] > learnt["without"]
    known = {
        "repeat: z₁ = x₁, z₂ = x₂": (3, 5),
        "swap: z₁ = x₂, z₂ = x₁": (5, 3),
        "and, or": (1, 7),
        "half adder: xor, and": (6, 1),
    }
    table = [["task", "with cross links", "median passes", "without"]]
    for name, (a, b) in known.items():
        middle = band(with_links.view(16, 16, starts)[a, b])["median"]
        table.append([name, f"{share['with'][a, b]:.0%}", middle or "–", f"{share['without'][a, b]:.0%}"])
    figures = {
        "starts_a_task": starts,
        "passes": passes,
        "rate": rate,
        "tasks": 256,
        "tasks_learnt": learnt,
        "lowest_share_learnt_with": share["with"][share["with"] > 0].min().item(),
        "tasks_of_own_input_alone": int(possible.sum()),
        "table": table,
        "share_with": share["with"].tolist(),
        "share_without": share["without"].tolist(),
    }
    adder = {name: _adder(seed, device, name == "with" and links, passes=passes) for name in share}
    spread = {
        name: torch.quantile(e, e.new_tensor([0.1, 0.5, 0.9]), dim=1).tolist() for name, e in adder.items()
    }
    figures["half_adder_median_error"] = {name: middle for name, (_, middle, _) in spread.items()}
    figures["half_adder_band"] = {name: {"p10": low, "p90": high} for name, (low, _, high) in spread.items()}
    figures["half_adder_starts"] = adder["with"].shape[1]
    return Result(
        "The second simplest net, and its cross connections",
        "Two inputs, two neurons in the middle, two outputs: the cross connections are what lets an output"
        " depend on both inputs.",
        "∂P/∂w sums over both outputs: a neuron in the middle is judged by all that it feeds",
        exact and more and bool(share["with"][6, 1] > 0),
        [
            (
                f"Every pair of truth tables of two inputs was set as a task, 256 in all, {starts} random"
                f" starts each. Without cross connections the net learnt {learnt['without']}: exactly those"
                f" where each output needs at most its own input. With them it learnt {learnt['with']} of"
                " 256."
            ),
            (
                f"The half adder (sum and carry of two bits) is learnt from {share['with'][6, 1]:.0%} of the"
                f" starts with cross connections, and from {share['without'][6, 1]:.0%} without."
            ),
        ],
        figures,
        [
            ("cross", "Share of starts that learn each of the 256 tasks", _draw_tasks(share)),
            (
                "cross-curves",
                f"Learning the half adder: largest error, median and 10–90% of {adder['with'].shape[1]}"
                " starts",
                _draw_adder(spread),
            ),
        ],
        table,
        "Two neurons in the middle are two cuts through the square of inputs, and the second layer cuts once"
        f" more for each output: for {learnt['with']} of the 256 tasks some start was enough. Not every start"
        " is: the hardest task that was learnt at all was learnt from"
        f" {share['with'][share['with'] > 0].min():.0%} of them in {passes:,} passes.",
    )


def _adder(seed: int, device, links: bool, starts: int = 100, passes: int = 1500):
    torch.manual_seed(seed)
    x = truth_table(2, device)
    d = torch.cat([xor(x), x.prod(2, keepdim=True)], 2)
    if links:
        return _curves(
            chain(starts, (2, 2, 2), device), x.expand(starts, -1, -1), d, 4.0, passes, "half adder"
        ).cpu()
    x, d = (t.transpose(0, 2).repeat(starts, 1, 1) for t in (x, d))
    errors = _curves(chain(2 * starts, (1, 1, 1), device), x, d, 4.0, passes, "half adder, apart")
    return errors.view(-1, starts, 2).amax(2).cpu()


def _draw_tasks(share):
    figure, axes = plot.panels(2, 1, height=9.6)
    names = [format(t, "04b") for t in range(16)]
    for a, (name, s) in zip(axes, share.items()):
        image = a.imshow((100 * s).numpy(), cmap="Blues", vmin=0, vmax=100, origin="lower")
        a.set(xticks=range(16), yticks=range(16), title=f"{name} cross connections", ylabel="wanted of z₁")
        a.set_xticklabels(names, rotation=90, fontsize=11, family="monospace")
        a.set_yticklabels(names, fontsize=11, family="monospace")
        a.spines[:].set_visible(True)
    axes[1].set_xlabel("wanted of z₂, for inputs 00, 01, 10, 11")
    figure.colorbar(image, ax=axes, label="starts that learn it / %", shrink=0.5, pad=0.02)
    return figure


def _draw_adder(spread):
    figure, axes = plot.panels(height=3.8)
    for (name, lines), color, pale in zip(spread.items(), (plot.BLUE, plot.RED), (plot.PALE, "#f3d9dc")):
        low, middle, high = lines
        axes.fill_between(range(len(low)), low, high, color=pale)
        axes.plot(middle, color=color, lw=2, label=f"{name} cross connections")
    axes.axhline(SOLVED, color=plot.GREY, ls=":", lw=0.8)
    axes.set(xlabel="passes over the four samples", ylabel="largest error", ylim=(0, 1))
    axes.legend(frameon=False)
    return figure
