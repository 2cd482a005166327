"""A rate constant that adapts itself: its first value hardly matters."""

import torch
from torch import Tensor
from tqdm import tqdm

from nets.lecture import plot
from nets.lecture.many import SOLVED, band, slopes
from nets.lecture.rate import CAP, SWEEP, nets_at, sweep, task
from nets.lecture.result import Result
from nets.optim.adaptive import MAX_MOVE, MIN_GAIN, Adaptive

# 11 rates from 0.005 to 500
STARTS = tuple(float(f"{0.005 * 10 ** (k / 2):.3g}") for k in range(11))
PATIENCE = 1000  # passes after which an adaptive start counts as failed


def train_adaptively(net, rate: Tensor, cap: int, device, **constants) -> Tensor:
    """The passes that the adaptive rate needs, (S); 0 for a failed start. Steps taken back count too."""
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
    fixed_passes = sweep(tuple(fixed), starts, cap, seed, device)
    fixed_bands = [band(p) for p in fixed_passes]
    medians = [b["median"] or cap + 1 for b in fixed_bands]
    k = min(range(len(fixed)), key=lambda i: (medians[i], fixed_bands[i]["never"]))  # the best fixed rate
    net, rate = nets_at(rates, starts, seed, device)
    passes = train_adaptively(net, rate, min(cap, PATIENCE), device, **constants).view(len(rates), starts)
    bands = {r: band(p) for r, p in zip(rates, passes)}
    quickest, slowest = (pick(b["median"] or cap + 1 for b in bands.values()) for pick in (min, max))
    lost = int(((passes == 0) & (fixed_passes[k] > 0)).sum())
    table: list[list] = [["starts at rate", "median", "10–90% of starts", "slowest", "failed"]]
    for r, b, p in zip(rates, bands.values(), passes):
        table.append([r, b["median"], f"{b['p10']} – {b['p90']}", int(p.max()), b["never"]])
    best = fixed_bands[k]
    table.append([f"fixed at {fixed[k]:g}", medians[k], f"{best['p10']} – {best['p90']}"])
    table[-1] += [int(fixed_passes[k].max()), best["never"]]
    rule = Adaptive({"w": torch.zeros(1)}, 1.0, **constants)
    figures = {
        "shrink": rule.shrink,
        "grow": rule.grow,
        "least": MIN_GAIN,
        "reach": MAX_MOVE,
        "max_ratio": rule.max_ratio,
        "cap": min(cap, PATIENCE),
        "runs": len(rates) * starts,
        "first_rates": rates,
        "smallest_adaptive_median": quickest,
        "slowest_adaptive": int(passes.max()),
        "slowest_best_fixed": int(fixed_passes[k].max()),
        "starts_a_rate": starts,
        "table": table,
        "best_fixed_rate": fixed[k],
        "best_fixed_median": medians[k],
        "largest_adaptive_median": slowest,
        "failed_where_best_fixed_did_not": lost,
        "fixed_bands": {f"{r:g}": b for r, b in zip(fixed, fixed_bands)},
        "adaptive_bands": {f"{r:g}": b for r, b in bands.items()},
    }
    return Result(
        "A rate that adapts itself",
        "The rate constant need not be guessed. Cut it when performance falls or hardly rises. Raise it when"
        " performance rises.",
        f"ρ = rise ÷ promised rise<br>ρ &lt; {MIN_GAIN:g}: step back, r ← {rule.shrink:g}·r<br>else: r ← r /"
        f" (1 − ρ), at most {rule.grow:g}·r",
        slowest <= medians[k] and lost == 0,
        [
            f"With first rates from {rates[0]:g} to {rates[-1]:g}, the median is {quickest} to {slowest}"
            f" iterations. The best fixed rate, {fixed[k]:g}, needs {medians[k]}.",
            f"Of {len(rates) * starts:,} runs, {lost} failed where the best fixed rate did not. The slowest"
            f" run took {int(passes.max())} iterations. At the best fixed rate the slowest took"
            f" {int(fixed_passes[k].max())}.",
        ],
        figures,
        [
            (
                "adaptive-rate",
                "Iterations by the first rate, fixed and adaptive. At fixed rates above 50 most starts never"
                " succeed",
                _draw(fixed, fixed_bands, rates, list(bands.values())),
            )
        ],
        table,
        "Every weight has its own rate. It is also cut when the slope of its weight changes sign. A step uses"
        " both samples at once, so that P before and after it can be compared. Every evaluation counts as one"
        " iteration, also when the step is taken back. The same rule is <code>train.optimizer ="
        ' "adaptive"</code>, for training on all samples at once. No step moves a weight by more than'
        f" {MAX_MOVE:g}, and no rate of a net is over {rule.max_ratio:,g} times its smallest. Without these"
        " two limits, some starts end on a plateau for ever. The constants were chosen on this very task,"
        " with many seeds. For other tasks they are no guarantee.",
    )


def _draw(fixed, fixed_bands: list[dict], rates, bands: list[dict]):
    figure, axes = plot.panels(height=4.4)
    figure.set_label(
        "Iterations until right over the rate constant, both logarithmic. The curve of fixed rates"
        " falls to a narrow valley and rises again. The curve of the adaptive rate is flat, at the"
        " valley's bottom."
    )
    for where, found, color, pale, label in (
        (fixed, fixed_bands, plot.RED, plot.PALE_RED, "fixed rate"),
        (rates, bands, plot.BLUE, plot.PALE, "adaptive"),
    ):
        known = [(r, b) for r, b in zip(where, found) if b["p90"] is not None]
        low, high = ([b[k] for _, b in known] for k in ("p10", "p90"))
        axes.fill_between([r for r, _ in known], low, high, color=pale)
        known = [(r, b) for r, b in zip(where, found) if b["median"] is not None]
        x, medians = [r for r, _ in known], [b["median"] for _, b in known]
        axes.loglog(x, medians, "o-", color=color, ms=4, label=f"{label}, median and 10–90%")
    axes.set(xlabel="rate constant, fixed or first", ylabel="iterations until right", ylim=(4, 3e4))
    axes.legend(frameon=False)
    return figure
