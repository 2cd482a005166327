"""The rate constant (learning rate): too small is slow, too large is unstable."""

from functools import lru_cache

import torch
from torch import Tensor

from nets.lecture import plot
from nets.lecture.many import SOLVED, band, chain, largest_error, map_params, slopes, train
from nets.lecture.page import number
from nets.lecture.result import Result
from nets.optim.sgd import SGD

LECTURE = {
    0.5: (694, 823),
    5.0: (57, 67),
    50.0: (124, 117),
}  # rate -> iterations in the lecture's demonstration
# 21 rates from 0.05 to 500, five per decade; 0.5, 5 and 50 are among them
SWEEP = tuple(float(f"{0.05 * 10 ** (k / 5):.3g}") for k in range(21))
CAP = 20_000  # passes after which a start counts as failed
JUMP = 0.1  # a larger rise of the largest error in one pass counts as instability
EDGES = torch.logspace(0, 4.35, 88)  # of the histogram's bins, in passes


def task(device):
    """The task of repeating the input: z = x for x in {0, 1}; (1, 2, 1)."""
    return torch.tensor([[[0.0], [1.0]]], device=device, dtype=torch.float64)


def nets_at(rates, starts: int, seed: int, device):
    """(the same `starts` random nets for every rate, side by side; the rate of each net (S))."""
    torch.manual_seed(seed)
    net = map_params(chain(starts, (1, 1, 1), device), lambda t: t.repeat(len(rates), 1, 1))
    rate = torch.tensor(rates, dtype=torch.float64, device=device).repeat_interleave(starts)
    return net, rate


@lru_cache(maxsize=2)
def sweep(rates, starts: int, cap: int, seed: int, device) -> Tensor:
    """The passes that each rate needed from each start, (rates, starts); 0 for a failed start."""
    net, rate = nets_at(rates, starts, seed, device)
    x = task(device)
    return train(net, x, x, rate, cap, batch=1, name="rate-constant").view(len(rates), starts)


def rate_constant(seed: int = 0, device="cpu", starts: int = 2000, rates=SWEEP, cap: int = CAP) -> Result:
    """The lecture's demonstration from thousands of starts: the iterations at every rate."""
    passes = sweep(tuple(rates), starts, cap, seed, device)
    bands = {r: band(p) for r, p in zip(rates, passes)}
    inside = [_within(seen, bands[r]) for r, pair in LECTURE.items() for seen in pair]
    traced = min(200, starts)
    errors = _traces(seed, device, starts, traced)
    shares = {r: _histogram(passes[list(rates).index(r)]) for r in LECTURE}
    failed = {r: b["never"] / starts for r, b in bands.items()}
    jumped = {f"{r:g}": _jumped(e) for r, e in errors.items()}
    solved = {r: b["median"] for r, b in bands.items() if b["never"] == 0 and b["median"] is not None}
    best = min(solved, key=lambda r: solved[r], default=None)
    last_pass = len(errors[5.0]) - 1
    figures = {
        "starts_a_rate": starts,
        "cap": cap,
        "lecture": {f"{r:g}": seen for r, seen in LECTURE.items()},
        "bands": {f"{r:g}": b for r, b in bands.items()},
        "lecture_inside_band": inside,
        "share_that_failed": {f"{r:g}": share for r, share in failed.items()},
        "histogram": {"edges": EDGES.tolist(), "percent": {f"{r:g}": h.tolist() for r, h in shares.items()}},
        "traced_starts": traced,
        "traced_passes": last_pass,
        "jump": JUMP,
        "share_that_jumped_back": jumped,
        "largest_error_of_four_starts": {f"{r:g}": e[:, :4].T.tolist() for r, e in errors.items()},
        "best_rate": best,
    }
    found = [
        f"{'All' if all(inside) else sum(inside)} of the lecture's {len(inside)} figures lie within the"
        f" 10–90% band of {starts:,} random starts."
    ]
    if best and 0.05 in bands and 500.0 in bands:
        found.append(
            f"The best fixed rate at which every start succeeds is {best:g}: median {solved[best]}"
            f" iterations. At 0.05 the median is {number(bands[0.05]['median'])}. At 500, {failed[500.0]:.0%}"
            f" of the starts do not succeed within {cap:,} passes."
        )
    found.append(
        f"Instability is a rise of the largest error by more than {JUMP} in a single pass, after the first"
        f" ten passes. Within {last_pass} passes it happened to {jumped['50']:.0%} of the first {traced}"
        f" starts at rate 50, to {jumped['5']:.0%} at 5, and to {jumped['0.5']:.0%} at 0.5."
    )
    return Result(
        "The rate constant",
        "A net with thresholds learns to repeat its input. The lecture saw 694 and 823 iterations at rate"
        " 0.5, 57 and 67 at 5, and 124 and 117 at 50, with instability. The rate must be neither too small"
        " nor too large.",
        "Δw = r · ∂P/∂w",
        all(inside) and jumped["50"] > 2 * jumped["5"],
        found,
        figures,
        [
            (
                "rate-constant",
                "The number of iterations, and how it depends on the rate",
                _draw(shares, rates, bands, cap),
            ),
            (
                "rate-constant-errors",
                "The largest error of the first four starts, after each pass",
                _draw_errors(errors),
            ),
        ],
        _table(bands, starts, cap),
        "The weights change after each of the two samples x = 0 and x = 1. One iteration is a pass over both."
        " Weights and thresholds start uniform in ±2. A start has succeeded when its largest error is under"
        " 0.1. The lecture doesn't say how it starts or counts. Counted this way, its figures are typical."
        " The usual name of the rate constant today is learning rate.",
    )


def _within(seen: int, found: dict) -> bool:
    """Does the lecture's number of iterations lie within the 10–90% band?"""
    low, high = found["p10"], found["p90"]
    return low is not None and low <= seen and (high is None or seen <= high)


def _table(bands: dict, starts: int, cap: int) -> list[list]:
    table: list[list] = [
        ["rate constant", "lecture", "our median", "10–90% of starts", f"failed in {cap:,} passes"]
    ]
    for r, seen in LECTURE.items():
        low, median, high, never = (bands[r][k] for k in ("p10", "median", "p90", "never"))
        band_cell = f"{number(low)} – {number(high)}"
        table.append([r, f"{seen[0]}, {seen[1]}", median, band_cell, f"{never / starts:.1%}"])
    return table


def _traces(seed: int, device, starts: int, nets: int, rates=tuple(LECTURE), passes: int = 200):
    """The largest error of the first nets after every pass: rate -> (passes + 1, nets)."""
    net, rate = nets_at(rates, starts, seed, device)
    net = map_params(net, lambda t: t.view(len(rates), starts, *t.shape[1:])[:, :nets].flatten(0, 1).clone())
    rate = rate.view(len(rates), starts)[:, :nets].flatten()
    x = task(device).expand(len(rate), -1, -1)
    optimizer, errors = SGD(net.params, 1.0, maximize=True), [largest_error(net, x, x)]
    for _ in range(passes):
        for sample in x.split(1, 1):
            optimizer.step(slopes(net, sample, sample)[2], rate[:, None, None])
        errors.append(largest_error(net, x, x))
    errors = torch.stack(errors).view(passes + 1, len(rates), nets).cpu()
    return {r: errors[:, k] for k, r in enumerate(rates)}


def _jumped(errors) -> float:
    """The share of starts whose largest error rose by more than JUMP in one pass, after the first ten."""
    return (errors[11:] - errors[10:-1] > JUMP).any(0).double().mean().item()


def _histogram(passes: Tensor) -> Tensor:
    """The percentage of starts that succeeded in each bin between EDGES."""
    solved = passes[passes > 0].double().cpu()
    return 100 * torch.histogram(solved, EDGES.double()).hist / len(passes)


def _draw(shares, rates, bands, cap):
    figure, (above, below, share) = plot.panels(
        3, 1, height=9, gridspec_kw={"height_ratios": [1.5, 1.5, 0.8]}
    )
    figure.set_label(
        "Above: how many starts needed how many iterations, three hills for the rates 50, 5 and 0.5"
        " from left to right, the one of 50 very wide, with the lecture's figures as dashed lines"
        " within them. Middle: iterations by rate fall to a valley near 20. Below: from there on, more"
        " and more starts fail."
    )
    for (r, seen), color in zip(LECTURE.items(), (plot.BLUE, plot.GREEN, plot.RED)):
        heights = shares[r].tolist()
        above.stairs(heights, EDGES.tolist(), fill=True, color=color, alpha=0.55, label=f"rate {r:g}")
        for s in seen:
            above.axvline(s, color=color, lw=1.8, ls="--")
    above.plot([], [], color=plot.GRAY, ls="--", label="the lecture's figures")
    above.set(xscale="log", xlabel="iterations until right", ylabel="% of starts", xlim=(1, 2.2e4))
    above.legend(frameon=False, fontsize=10, ncols=2, bbox_to_anchor=(0, 1), loc="lower left")

    known = [r for r in rates if bands[r]["median"] is not None]
    below.loglog(known, [bands[r]["median"] for r in known], "o-", color=plot.BLUE, ms=4, label="our median")
    both = [r for r in rates if bands[r]["p90"] is not None]
    low, high = ([bands[r][k] for r in both] for k in ("p10", "p90"))
    below.fill_between(both, low, high, color=plot.PALE, label="10–90% of starts")
    for r, seen in LECTURE.items():
        below.plot([r] * 2, seen, "x", color=plot.RED, ms=8, mew=2, label="the lecture" if r == 0.5 else None)
    below.set(ylabel="iterations until right")
    below.legend(frameon=False, fontsize=10)
    failed = [100 * bands[r]["never"] / bands[r]["starts"] for r in rates]
    share.semilogx(rates, failed, "o-", color=plot.RED, ms=4)
    share.set(xlabel="rate constant", ylabel=f"failed in {cap:,}\npasses / %", ylim=(-4, 104))
    below.sharex(share)
    return figure


def _draw_errors(errors):
    figure, axes = plot.panels(3, 1, height=7, sharex=True, sharey=True)
    figure.set_label(
        "The largest error by pass for four starts each. At rate 0.5 it falls slowly, at 5 quickly"
        " and smoothly, and at 50 it jumps up and down."
    )
    for a, (r, e), color in zip(axes, errors.items(), (plot.BLUE, plot.GREEN, plot.RED)):
        a.plot(e[:, :4].tolist(), color=color, lw=1, alpha=0.8)
        a.axhline(SOLVED, color=plot.GRAY, lw=0.8, ls=":")
        a.set(ylabel="largest error", title=f"rate {r:g}", ylim=(0, 1.05))
    axes[-1].set(xlabel="passes over both samples")
    return figure
