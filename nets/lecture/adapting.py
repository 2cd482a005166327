"""A rate constant that adapts itself: where it starts hardly matters."""

import torch
from tqdm import tqdm

from nets.lecture import plot
from nets.lecture.many import SOLVED, band, slopes
from nets.lecture.rate import CAP, SWEEP, nets_at, sweep, task
from nets.lecture.result import Result
from nets.optim.adaptive import MAX_MOVE, MIN_GAIN, Adaptive

# eleven, from 0.005 to 500
STARTS = tuple(float(f"{0.005 * 10 ** (k / 2):.3g}") for k in range(11))
PATIENCE = 1000  # passes, then an adaptive start counts as one that never gets there


def settle_in(net, rate, cap: int, device, **constants) -> torch.Tensor:
    """Passes that the adaptive rate needs, (S), every step taken back counted; 0 where it never does."""
    x = task(device).expand(len(rate), -1, -1)
    optimizer = Adaptive(net.params, rate[:, None, None], maximize=True, num_nets=len(rate), **constants)
    passes = torch.zeros_like(rate, dtype=torch.int64)
    for step in tqdm(range(cap), "adaptive-rate", disable=None, leave=False):
        p, z, grads = slopes(net, x, x)
        right = (z - x).abs().amax((1, 2)) < SOLVED  # after `step` steps
        passes = torch.where(right & (passes == 0), max(step, 1), passes)
        if step % 20 == 0 and (passes > 0).all():
            break
        optimizer.step(grads, loss=p)
    return passes


def adaptive_rate(
    seed: int = 0, device="cpu", starts: int = 2000, rates=STARTS, fixed=SWEEP, cap: int = CAP, **constants
) -> Result:
    """Cut the rate when a step doesn't pay, raise it when it does: the first rate hardly matters."""
    usual = sweep(tuple(fixed), starts, cap, seed, device)
    bands = [band(p) for p in usual]
    medians = [b["median"] or cap + 1 for b in bands]
    k = min(range(len(fixed)), key=lambda i: (medians[i], bands[i]["never"]))
    net, rate = nets_at(rates, starts, seed, device)
    passes = settle_in(net, rate, min(cap, PATIENCE), device, **constants).view(len(rates), starts)
    ours = {r: band(p) for r, p in zip(rates, passes)}
    quickest = min(b["median"] or cap + 1 for b in ours.values())
    lost = int(((passes == 0) & (usual[k] > 0)).sum())
    slowest = max(b["median"] or cap + 1 for b in ours.values())
    table = [["starts at rate", "median", "10–90% of starts", "slowest", "never"]]
    for (r, b), p in zip(ours.items(), passes):
        table.append([r, b["median"], f"{b['p10']} – {b['p90']}", int(p.max()), b["never"]])
    table.append(
        [
            "fixed at %g" % fixed[k],
            medians[k],
            f"{bands[k]['p10']} – {bands[k]['p90']}",
            int(usual[k].max()),
            bands[k]["never"],
        ]
    )
    example = Adaptive({"w": torch.zeros(1)}, 1.0, **constants)
    figures = {
        "cut": example.shrink,
        "grow": example.grow,
        "least": MIN_GAIN,
        "reach": MAX_MOVE,
        "apart": example.max_ratio,
        "cap": min(cap, PATIENCE),
        "runs": len(rates) * starts,
        "first_rates": rates,
        "smallest_adaptive_median": quickest,
        "slowest_adaptive": int(passes.max()),
        "slowest_best_fixed": int(usual[k].max()),
        "starts_a_rate": starts,
        "table": table,
        "best_fixed_rate": fixed[k],
        "best_fixed_median": medians[k],
        "largest_adaptive_median": slowest,
        "failed_where_best_fixed_did_not": lost,
        "fixed_bands": {f"{r:g}": b for r, b in zip(fixed, bands)},
        "adaptive_bands": {f"{r:g}": b for r, b in ours.items()},
    }
    return Result(
        "A rate that adapts itself",
        "Instead of guessing the rate constant, cut it when performance falls (or hardly rises)"
        " and raise it when it rises.",
        f"ρ = rise ÷ promised rise<br>ρ &lt; {MIN_GAIN:g}: step back, r ← {example.shrink:g}·r<br>else:"
        f" r ← r / (1 − ρ), at most {example.grow:g}·r",
        slowest <= medians[k] and lost == 0,
        [
            (
                f"Whatever rate from {rates[0]:g} to {rates[-1]:g} it starts with, the median is"
                f" {quickest} to {slowest} iterations; the best"
                f" fixed rate of the sweep, {fixed[k]:g}, needs {medians[k]}."
            ),
            (
                f"Of {len(rates) * starts:,} runs {lost} failed where the best fixed rate did not, and the"
                f" slowest took {int(passes.max())} iterations, against {int(usual[k].max())}."
            ),
        ],
        figures,
        [
            (
                "adaptive-rate",
                "Iterations by the rate one starts with: fixed, and adaptive. At fixed rates beyond 50"
                " most starts never"
                " get there",
                _draw_adaptive(fixed, bands, rates, ours),
            )
        ],
        table,
        "Every weight has a rate of its own, and it is cut too when the slope of its weight changes sign. A"
        " step uses both samples at once, so that P before and after can be compared, and every evaluation"
        " counts as one iteration, steps taken back included. The same rule is <code>train.optimizer ="
        ' "adaptive"</code>, for training on all samples at once. No step moves a weight by more than'
        f" {MAX_MOVE:g}, and no rate of a net is over {example.max_ratio:,g} times its smallest:"
        " without the two, a start now and then ends on a plateau for ever. The constants were picked on this"
        " very task, with many seeds: elsewhere they are no guarantee.",
    )


def _draw_adaptive(fixed, bands, rates, ours):
    figure, axes = plot.panels(height=4.4)
    for where, found, color, label in (
        (fixed, bands, plot.RED, "fixed rate"),
        (rates, ours.values(), plot.BLUE, "adaptive"),
    ):
        known = [(r, b) for r, b in zip(where, found) if b["p90"] is not None]
        x, pale = [r for r, _ in known], "#f3d9dc" if color == plot.RED else plot.PALE
        axes.fill_between(x, [b["p10"] for _, b in known], [b["p90"] for _, b in known], color=pale)
        known = [(r, b) for r, b in zip(where, found) if b["median"] is not None]
        axes.loglog(
            [r for r, _ in known],
            [b["median"] for _, b in known],
            "o-",
            color=color,
            ms=4,
            label=f"{label}, median and 10–90%",
        )
    axes.set(
        xlabel="rate constant, or the one it starts with", ylabel="iterations until right", ylim=(4, 3e4)
    )
    axes.legend(frameon=False)
    return figure
