"""Links between nodes: equal nodes stay equal, and without cross links an output sees only its own input."""

from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from nets.layers.containers import Sequential
from nets.lecture import plot
from nets.lecture.many import SOLVED, band, chain, map_params, slopes, train, truth_table
from nets.lecture.result import Result
from nets.optim.sgd import SGD

QUANTILES = (0.1, 0.5, 0.9)


def xor(x: Tensor) -> Tensor:
    """Exclusive or: one output, 1 where exactly one of the two inputs is on. x (1, 4, 2) -> (1, 4, 1)."""
    return (x.sum(2, keepdim=True) == 1).to(x.dtype)


def _error_curves(
    net: Sequential,
    x: Tensor,
    d: Tensor,
    rate: float,
    passes: int,
    name: str,
    watch: Callable[[Sequential], None] = lambda net: None,
) -> Tensor:
    """Train on all samples at once; the largest error of every net after each pass, (passes + 1, S)."""
    optimizer, errors = SGD(net.params, rate, maximize=True), []
    for _ in tqdm(range(passes + 1), name, disable=None, leave=False):
        _, z, grads = slopes(net, x, d)
        errors.append((z - d).abs().amax((1, 2)))
        watch(net)
        optimizer.step(grads)
    return torch.stack(errors)


def _quantiles(errors: Tensor) -> list[list[float]]:
    """The 10%, 50% and 90% quantile over the nets, after each pass."""
    return torch.quantile(errors, errors.new_tensor(QUANTILES), dim=1).tolist()


def symmetry(seed: int = 0, device="cpu", starts: int = 200, passes: int = 3000, equal=None) -> Result:
    """Two hidden nodes that start equal get the same gradient, so they stay one node for ever."""
    torch.manual_seed(seed)
    x = truth_table(2, device)
    d = xor(x)
    x, d = (t.expand(starts, -1, -1) for t in (x, d))
    random = chain(starts, (2, 2, 1), device)
    alike = chain(starts, (2, 2, 1), device)
    map_params(alike, equal or (lambda t: t[:, :1, :1].expand_as(t).clone()))
    difference = torch.zeros((), device=device, dtype=torch.float64)

    def watch(net):  # the largest difference of the two hidden nodes so far
        into, threshold, out = (net.params[k] for k in ("0.weight", "0.bias", "2.weight"))
        for t, dim in ((into, 1), (threshold, 2), (out, 2)):
            one, other = t.unbind(dim)
            difference.copy_(torch.maximum(difference, (one - other).abs().max()))

    errors = {"all weights equal": _error_curves(alike, x, d, 2.0, passes, "symmetry, equal", watch)}
    largest = difference.item()
    errors["random weights"] = _error_curves(random, x, d, 2.0, passes, "symmetry, random")
    solved = {name: (e[-1] < SOLVED).double().mean().item() for name, e in errors.items()}
    lines = {name: _quantiles(e) for name, e in errors.items()}
    figures = {
        "starts": starts,
        "passes": passes,
        "rate": 2.0,
        "largest_difference_of_equal_nodes": largest,
        "share_that_learned": solved,
        "largest_error_10_50_90_percent": lines,
        "lowest_error_of_equal_starts": errors["all weights equal"].min().item(),
    }
    labels = {name: f"{name}: {share:.0%} learn it" for name, share in solved.items()}
    figure = _draw_errors({labels[name]: line for name, line in lines.items()}, (plot.RED, plot.BLUE), 4)
    return Result(
        "Equal starts stay equal",
        "If all weights start equal, the nodes of a layer get the same gradient and stay equal. Random starts"
        " break the symmetry.",
        "w<sub>i</sub> = w<sub>j</sub> ⇒ ∂P/∂w<sub>i</sub> = ∂P/∂w<sub>j</sub> ⇒ w<sub>i</sub> ="
        " w<sub>j</sub> after the step",
        largest == 0 and solved["all weights equal"] == 0 and solved["random weights"] > 0.25,
        [
            f"The task is exclusive or, with two hidden nodes and {starts} nets of each kind. With all"
            f" weights of a layer equal at the start, the two nodes were bit-identical in all {passes:,}"
            f" steps (largest difference {largest:g}), and {solved['all weights equal']:.0%} of the nets"
            f" learned the task. With random weights, {solved['random weights']:.0%} learned it.",
            "Two identical nodes do no more than one. One neuron cannot compute exclusive or, as the first"
            " experiment shows.",
        ],
        figures,
        [("symmetry", "Largest error: median, and 10–90% of the starts", figure)],
        note=(
            "Random starts break the symmetry, but they don't always lead to the goal. The other nets were"
            f" still creeping along a plateau after {passes:,} steps."
        ),
    )


def wanted(tables: Tensor, device) -> Tensor:
    """Truth tables of two inputs as numbers 0 to 15, (T) -> wanted outputs for the four inputs, (T, 4)."""
    return truth_table(4, device)[0][tables]


def cross(
    seed: int = 0, device="cpu", starts: int = 20, passes: int = 1500, rate: float = 4.0, links: bool = True
) -> Result:
    """All 256 tasks of two outputs, for nets with cross connections and for nets without."""
    solved = _train_all_tasks(seed, device, starts, passes, rate, links)
    share = {name: (p > 0).double().mean(2) for name, p in solved.items()}
    learned = {name: int((s > 0).sum()) for name, s in share.items()}
    possible = _own_input_alone()
    exact = bool(((share["without"] > 0) == possible).all())
    more = bool((share["with"] > 0)[possible].all()) and learned["with"] > learned["without"]
    table = _table(solved["with"], share)
    lowest = share["with"][share["with"] > 0].min().item()
    adder = {name: _adder(seed, device, name == "with" and links, passes=passes) for name in share}
    lines = {name: _quantiles(e) for name, e in adder.items()}
    figures = {
        "starts_a_task": starts,
        "passes": passes,
        "rate": rate,
        "tasks": 256,
        "tasks_learned": learned,
        "lowest_share_learned_with": lowest,
        "tasks_of_own_input_alone": int(possible.sum()),
        "table": table,
        "share_with": share["with"].tolist(),
        "share_without": share["without"].tolist(),
        "half_adder_median_error": {name: median for name, (_, median, _) in lines.items()},
        "half_adder_band": {name: {"p10": low, "p90": high} for name, (low, _, high) in lines.items()},
        "half_adder_starts": adder["with"].shape[1],
    }
    curves = {f"{name} cross connections": line for name, line in lines.items()}
    return Result(
        "The second simplest net, and its cross connections",
        "The net has two inputs, two neurons in the middle and two outputs. The cross connections let an"
        " output depend on both inputs.",
        "∂P/∂w sums over both outputs: the gradient of a neuron in the middle comes from all that it feeds",
        exact and more and bool(share["with"][6, 1] > 0),
        [
            f"Every pair of truth tables of two inputs is a task. There are 256 tasks, with {starts} random"
            f" starts each. Without cross connections the net learned {learned['without']} tasks: exactly"
            " those in which each output needs at most its own input. With them it learned"
            f" {learned['with']} of 256.",
            "The half adder (sum and carry of two bits) was learned from"
            f" {share['with'][6, 1]:.0%} of the starts with cross connections, and from"
            f" {share['without'][6, 1]:.0%} without.",
        ],
        figures,
        [
            ("cross", "Share of starts that learn each of the 256 tasks", _draw_tasks(share)),
            (
                "cross-curves",
                f"Learning the half adder: largest error, median and 10–90% of {adder['with'].shape[1]}"
                " starts",
                _draw_errors(curves, (plot.BLUE, plot.RED), 3.8),
            ),
        ],
        table,
        "Two neurons in the middle are two cuts through the square of inputs. The second layer adds one more"
        f" cut for each output. For {learned['with']} of the 256 tasks at least one start succeeded. Not"
        f" every start does. The hardest task that was learned at all was learned from {lowest:.0%} of the"
        f" starts in {passes:,} passes.",
    )


def _train_all_tasks(
    seed: int, device, starts: int, passes: int, rate: float, links: bool
) -> dict[str, Tensor]:
    """Train both nets on every task: name -> passes until right, (16, 16, starts), 0 for a failed start.

    Task (i, j): truth table i for the first output, j for the second.
    """
    torch.manual_seed(seed)
    x = truth_table(2, device)
    tables = torch.arange(16, device=device)
    tasks = torch.cartesian_prod(tables, tables)
    d = wanted(tasks, device).transpose(1, 2).repeat_interleave(starts, 0)  # (256 · starts, 4, 2)
    rates = torch.full((len(d),), rate, device=device, dtype=torch.float64)
    net = chain(len(d), (2, 2, 2) if links else (2, 1, 2), device)
    with_links = train(net, x, d, rates, passes, name="cross")
    # without cross connections the net is two of the simplest nets, each with one input and one output
    halves = chain(2 * len(d), (1, 1, 1), device)
    split_x = x.expand(len(d), -1, -1).transpose(1, 2).reshape(-1, 4, 1)
    split_d = d.transpose(1, 2).reshape(-1, 4, 1)
    both = train(halves, split_x, split_d, rates.repeat_interleave(2), passes, name="no cross").view(-1, 2)
    without = torch.where((both == 0).any(1), 0, both.amax(1))
    return {name: p.view(16, 16, starts).cpu() for name, p in (("with", with_links), ("without", without))}


def _own_input_alone() -> Tensor:
    """The tasks in which output 1 needs at most input 1, and output 2 at most input 2: (16, 16)."""
    of_x1, of_x2 = ([t in own for t in range(16)] for own in ((0, 3, 12, 15), (0, 5, 10, 15)))
    return torch.tensor(of_x1)[:, None] & torch.tensor(of_x2)


def _table(solved: Tensor, share: dict[str, Tensor]) -> list[list]:
    known = {
        "repeat: z₁ = x₁, z₂ = x₂": (3, 5),
        "swap: z₁ = x₂, z₂ = x₁": (5, 3),
        "and, or": (1, 7),
        "half adder: xor, and": (6, 1),
    }
    table = [["task", "with cross links", "median passes", "without"]]
    for name, (a, b) in known.items():
        median = band(solved[a, b])["median"] or "–"
        table.append([name, f"{share['with'][a, b]:.0%}", median, f"{share['without'][a, b]:.0%}"])
    return table


def _adder(seed: int, device, links: bool, starts: int = 100, passes: int = 1500) -> Tensor:
    """The largest errors of nets that learn the half adder, (passes + 1, starts)."""
    torch.manual_seed(seed)
    x = truth_table(2, device)
    d = torch.cat([xor(x), x.prod(2, keepdim=True)], 2)
    if links:
        net = chain(starts, (2, 2, 2), device)
        return _error_curves(net, x.expand(starts, -1, -1), d, 4.0, passes, "half adder").cpu()
    x, d = (t.transpose(0, 2).repeat(starts, 1, 1) for t in (x, d))
    errors = _error_curves(chain(2 * starts, (1, 1, 1), device), x, d, 4.0, passes, "half adder, apart")
    return errors.view(-1, starts, 2).amax(2).cpu()


def _draw_tasks(share: dict[str, Tensor]):
    figure, axes = plot.panels(2, 1, height=8)
    figure.set_label(
        "Two squares of 16 × 16 tasks, darker where more starts succeed. With cross connections"
        " nearly all fields are dark. Without them only 16 fields are."
    )
    names = [format(t, "04b") for t in range(16)]
    image = None
    for a, (name, s) in zip(axes, share.items()):
        image = a.imshow((100 * s).numpy(), cmap="Blues", vmin=0, vmax=100, origin="lower")
        a.set(xticks=range(16), yticks=range(16), title=f"{name} cross connections", ylabel="wanted z₁")
        a.set_xticklabels(names, rotation=90, fontsize=11, family="monospace")
        a.set_yticklabels(names, fontsize=11, family="monospace")
        a.spines[:].set_visible(True)
    axes[1].set_xlabel("wanted z₂, for inputs 00, 01, 10, 11")
    figure.colorbar(image, ax=axes, label="starts that learn it / %", shrink=0.5, pad=0.02)
    return figure


def _draw_errors(lines: dict[str, list[list[float]]], colors: tuple[str, str], height: float):
    """Median and 10–90% band of the largest error after each pass; lines: label -> quantiles."""
    figure, axes = plot.panels(height=height)
    figure.set_label(
        f"Largest error by pass, median and 10–90% band. {'; '.join(lines)}. One median falls to the"
        " dotted line at 0.1, the other stays far above it."
    )
    for (label, (low, median, high)), color in zip(lines.items(), colors):
        pale = plot.PALE_RED if color == plot.RED else plot.PALE
        axes.fill_between(range(len(low)), low, high, color=pale)
        axes.plot(median, color=color, lw=2, label=label)
    axes.axhline(SOLVED, color=plot.GRAY, ls=":", lw=0.8)
    axes.set(xlabel="passes over the four samples", ylabel="largest error", ylim=(0, 1))
    axes.legend(frameon=False, loc="upper right")
    return figure
