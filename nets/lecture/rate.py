"""The rate constant: too small is slow, too large is unstable, and an adaptive one needs no luck."""

from functools import lru_cache

import torch

from nets.lecture import plot
from nets.lecture.many import SOLVED, band, chain, rows, slopes, train, worst
from nets.lecture.page import number
from nets.lecture.result import Result
from nets.optim.sgd import SGD

LECTURE = {0.5: (694, 823), 5.0: (57, 67), 50.0: (124, 117)}  # iterations in the demonstration
# twenty-one, five a decade, from 0.05 to 500: 0.5, 5 and 50 are among them
SWEEP = tuple(float(f"{0.05 * 10 ** (k / 5):.3g}") for k in range(21))
CAP = 20_000  # passes, then a start counts as one that never gets there
JUMP = 0.1  # a rise of the largest error that counts as instability
EDGES = torch.logspace(0, 4.35, 88)  # of the histogram, passes


def task(device):
    """Say what you hear: z = x for x in {0, 1}; (1, 2, 1)."""
    return torch.tensor([[[0.0], [1.0]]], device=device, dtype=torch.float64)


def nets_at(rates, starts: int, seed: int, device):
    """The same `starts` random nets for every rate, side by side, and each one's rate (S)."""
    torch.manual_seed(seed)
    net = rows(chain(starts, (1, 1, 1), device), lambda t: t.repeat(len(rates), 1, 1))
    rate = torch.tensor(rates, dtype=torch.float64, device=device).repeat_interleave(starts)
    return net, rate


@lru_cache(maxsize=2)
def sweep(rates, starts: int, cap: int, seed: int, device) -> torch.Tensor:
    """Passes that each rate needed from each start, (rates, starts), 0 where it never got there."""
    net, rate = nets_at(rates, starts, seed, device)
    x = task(device)
    return train(net, x, x, rate, cap, batch=1, name="rate-constant").view(len(rates), starts)


def rate_constant(seed: int = 0, device="cpu", starts: int = 2000, rates=SWEEP, cap: int = CAP) -> Result:
    """The lecture's demonstration, from thousands of starts: iterations at every rate."""
    passes = sweep(tuple(rates), starts, cap, seed, device)
    bands = {r: band(p) for r, p in zip(rates, passes)}
    table = [["rate constant", "lecture saw", "our median", "10–90% of starts", f"not in {cap:,} passes"]]
    inside = []
    for r, seen in LECTURE.items():
        low, middle, high, never = (bands[r][k] for k in ("p10", "median", "p90", "never"))
        table.append([r, f"{seen[0]}, {seen[1]}", middle, f"{number(low)} – {number(high)}"])
        table[-1].append(f"{never / starts:.1%}")
        inside += [low is not None and low <= s and (high is None or s <= high) for s in seen]
    traced = min(200, starts)
    errors = _traces(seed, device, starts, traced)
    shares = {r: _histogram(passes[list(rates).index(r)]) for r in LECTURE}
    figures = {
        "starts_a_rate": starts,
        "cap": cap,
        "lecture": {f"{r:g}": seen for r, seen in LECTURE.items()},
        "bands": {f"{r:g}": b for r, b in bands.items()},
        "lecture_inside_band": inside,
        "share_not_there": {f"{r:g}": b["never"] / starts for r, b in bands.items()},
        "histogram": {"edges": EDGES.tolist(), "percent": {f"{r:g}": h.tolist() for r, h in shares.items()}},
        "traced_starts": traced,
        "traced_passes": len(errors[5.0]) - 1,
        "jump": JUMP,
        "share_that_jumped_back": {f"{r:g}": _jumped(e) for r, e in errors.items()},
        "largest_error_of_four_starts": {f"{r:g}": e[:, :4].T.tolist() for r, e in errors.items()},
    }
    solved = {r: b["median"] for r, b in bands.items() if b["never"] == 0 and b["median"] is not None}
    best = min(solved, key=solved.get, default=None)
    jumped = figures["share_that_jumped_back"]
    figures["best_rate"] = best
    lost = {r: b["never"] / starts for r, b in bands.items()}
    found = [
        (
            f"{'All' if all(inside) else sum(inside)} of the lecture's {len(inside)} figures lie within"
            " the 10–90%"
            f" band of {starts:,} random starts."
        ),
        (
            f"The best fixed rate of the sweep that every start survives is {best:g}: median {solved[best]}"
            f" iterations. At 0.05 it is {bands[0.05]['median']:,}, and at 500, {lost[500.0]:.0%} of the"
            " starts"
            f" are not there in {cap:,} passes."
            if best and 0.05 in bands and 500.0 in bands
            else ""
        ),
        (
            f"The instability at 50: within {len(errors[5.0]) - 1} passes (the first ten apart) the"
            " largest error"
            " jumped back up"
            f" by more than {JUMP}, in a single pass, from {jumped['50']:.0%} of the first {traced} starts;"
            " at 5 from"
            f" {jumped['5']:.0%}, at 0.5 from {jumped['0.5']:.0%}."
        ),
    ]
    return Result(
        "The rate constant",
        "A net with thresholds learns to say what it hears. The lecture saw 694 and 823 iterations at rate"
        " 0.5, 57 and 67 at 5, and 124 and 117 at 50, with instability: the rate must be neither too small"
        " nor too large.",
        "Δw = r · ∂P/∂w",
        all(inside) and jumped["50"] > 2 * jumped["5"],
        [f for f in found if f],
        figures,
        [
            (
                "rate-constant",
                "How many iterations, and how that depends on the rate",
                _draw(shares, rates, bands, cap),
            ),
            (
                "rate-constant-errors",
                "The largest error of the first four starts, pass by pass",
                _draw_errors(errors),
            ),
        ],
        table,
        "How it is counted: the weights change after each of the two samples x = 0 and x = 1, an iteration is"
        " a pass over both, weights and thresholds start uniform in ±2, and a start has got there when its"
        " largest error is under 0.1. The lecture doesn't say how it starts or counts: with this, its figures"
        " are typical.",
    )


def _traces(seed: int, device, starts: int, nets: int, rates=tuple(LECTURE), passes: int = 200):
    """The largest error after every pass of the first nets of the starts: rate -> (passes + 1, nets)."""
    net, rate = nets_at(rates, starts, seed, device)
    net = rows(net, lambda t: t.view(len(rates), starts, *t.shape[1:])[:, :nets].flatten(0, 1).clone())
    rate = rate.view(len(rates), starts)[:, :nets].flatten()
    x = task(device).expand(len(rate), -1, -1)
    optimizer, errors = SGD(net.params, 1.0, maximize=True), [worst(net, x, x)]
    for _ in range(passes):
        for sample in x.split(1, 1):
            optimizer.step(slopes(net, sample, sample)[2], rate[:, None, None])
        errors.append(worst(net, x, x))
    errors = torch.stack(errors).view(passes + 1, len(rates), nets).cpu()
    return {r: errors[:, k] for k, r in enumerate(rates)}


def _jumped(errors) -> float:
    """Share of starts whose largest error, once past the first ten passes, rose by over JUMP in one."""
    return (errors[11:] - errors[10:-1] > JUMP).any(0).double().mean().item()


def _histogram(passes) -> torch.Tensor:
    """The percentage of starts that got there between one of EDGES and the next."""
    got = passes[passes > 0].double().cpu()
    return 100 * torch.histogram(got, EDGES.double()).hist / len(passes)


def _draw(shares, rates, bands, cap):
    figure, (above, below, share) = plot.panels(
        3, 1, height=9.4, gridspec_kw={"height_ratios": [1.5, 1.5, 0.8]}
    )
    for (r, seen), color in zip(LECTURE.items(), (plot.BLUE, plot.GREEN, plot.RED)):
        heights = shares[r].tolist()
        above.stairs(heights, EDGES.tolist(), fill=True, color=color, alpha=0.55, label=f"rate {r:g}")
        for s in seen:
            above.axvline(s, color=color, lw=1.8, ls="--")
    above.plot([], [], color=plot.GREY, ls="--", label="the lecture's figures")
    above.set(xscale="log", xlabel="iterations until right", ylabel="% of starts", xlim=(1, 2.2e4))
    above.legend(frameon=False, fontsize=10)

    known = [r for r in rates if bands[r]["median"] is not None]
    below.loglog(known, [bands[r]["median"] for r in known], "o-", color=plot.BLUE, ms=4, label="our median")
    both = [r for r in rates if bands[r]["p90"] is not None]
    low, high = ([bands[r][k] for r in both] for k in ("p10", "p90"))
    below.fill_between(both, low, high, color=plot.PALE, label="10–90% of starts")
    for r, seen in LECTURE.items():
        below.plot([r] * 2, seen, "x", color=plot.RED, ms=8, mew=2, label="the lecture" if r == 0.5 else None)
    below.set(ylabel="iterations until right")
    below.legend(frameon=False, fontsize=10)
    lost = [100 * bands[r]["never"] / bands[r]["starts"] for r in rates]
    share.semilogx(rates, lost, "o-", color=plot.RED, ms=4)
    share.set(xlabel="rate constant", ylabel=f"not in {cap:,}\npasses / %", ylim=(-4, 104))
    below.sharex(share)
    return figure


def _draw_errors(errors):
    figure, axes = plot.panels(3, 1, height=7, sharex=True, sharey=True)
    for a, (r, e), color in zip(axes, errors.items(), (plot.BLUE, plot.GREEN, plot.RED)):
        a.plot(e[:, :4].tolist(), color=color, lw=1, alpha=0.8)
        a.axhline(SOLVED, color=plot.GREY, lw=0.8, ls=":")
        a.set(ylabel="largest error", title=f"rate {r:g}", ylim=(0, 1.05))
    axes[-1].set(xlabel="pass over both samples")
    return figure
