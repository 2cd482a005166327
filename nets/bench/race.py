"""The race: every form trains the same net; each round, all of them take a turn."""

import math
from statistics import median, quantiles

import torch
from tqdm import tqdm

from nets.bench import forms, work
from nets.bench.worker import Rival, Worker
from nets.common.errors import MismatchError, NonFiniteError
from nets.training.build import build
from nets.training.config import Config

LOSSES = 5  # first steps whose losses are compared
# how far apart they may be, relative: by the order of adding up, and by what some steps make of that
APART = {"float64": 1e-9, "float32": 1e-5, "muon": 1e-4, "tf32": 2e-3, "bfloat16": 2e-3}
TURN = 0.5  # seconds that a form's turn takes at least, unless told otherwise


def race(task: forms.Task, field: list[forms.Form], rounds: int, steps: int = 0, profile: int = 0) -> dict:
    """Every figure of every form. MismatchError where their losses disagree.

    steps    in a turn; 0: as many as the fastest form takes TURN seconds for
    profile  steps to look at by layer or kernel, afterwards
    """
    conf = task.config
    with torch.device("meta"):  # does every layer take such a batch? before anything is started
        net, _ = build(conf.net.layers, task.shape)
        net.forward(torch.empty(conf.train.batch_size, *task.shape))
    least = needed(task)
    workers = [Worker(Rival, task, form, name=form.name) for form in field]
    dtype = getattr(torch, conf.train.dtype)
    peak = Worker(work.Peak, task.device, dtype, name="the machine's peak")
    try:
        with tqdm(total=len(field) + rounds, disable=None, leave=False) as bar:
            losses = {}
            for worker in workers:
                bar.set_description(f"{worker.name}, building")
                losses[worker.name] = worker.ask("losses", LOSSES)
                bar.update()
            compare(losses, apart(conf, task.device))
            times, best, steps = _rounds(workers, peak, rounds, steps, bar)
        rows = [_row(conf, w, times[w.name], losses[w.name]) for w in workers]
        profiles = {w.name: w.ask("profile", profile) for w in workers} if profile else {}
    finally:
        for worker in (*workers, peak):
            worker.close()
    facts = {"rounds": rounds, "steps": steps, "peak_flop_per_s": best} | least
    for row in rows:
        _judge(row, facts, times, rows)
    return facts | {"forms": rows} | ({"profiles": profiles} if profile else {})


def needed(task: forms.Task) -> dict:
    """What a step has to do at least."""
    net, _, x, _ = forms.prepare(forms.Task(task.config, task.shape, task.outputs, torch.device("cpu")))
    fewest = work.fewest_bytes(net, x, task.config.train.momentum > 0)
    parameters = sum(p.numel() for p in net.params.values())
    return {"flops": work.useful_flops(net, x), "fewest_bytes": fewest, "parameters": parameters}


def apart(conf: Config, device: torch.device) -> float:
    """How far losses may be apart, a share. In float32 some products are of fewer bits: Muon's, CUDA's."""
    kind = conf.train.dtype
    if kind == "float32":
        kind = "muon" if conf.train.optimizer == "muon" else kind
        kind = "tf32" if device.type == "cuda" and torch.backends.cudnn.allow_tf32 else kind
    return APART[kind]


def compare(losses: dict[str, list[float]], apart: float):
    """MismatchError unless every form's first losses are the first form's.

    Allowed is a share of the loss, and a larger one of the way that it has gone: a form that
    doesn't move, or half as fast, is found.
    """
    (first, wanted), *others = losses.items()
    for name, found in losses.items():
        if not all(map(math.isfinite, found)):
            steps = f"{len(found)} steps"
            raise NonFiniteError(f"{name}: the loss became {found[-1]} in {steps}; lower train.lr")
    for name, found in others:
        for step, (a, b) in enumerate(zip(found, wanted)):
            if abs(a - b) > apart * max(abs(b) + 25 * abs(b - wanted[0]), 1e-3):
                raise MismatchError(
                    f"{name} isn't the same training: its loss in step {step + 1} is {a:.6g},"
                    f" that of {first} {b:.6g}"
                )


def _rounds(workers, peak, rounds, steps, bar):
    """(form -> seconds a step, by round; the machine's best rate; steps in a turn)."""
    guess = min(worker.ask("turn", 1) for worker in workers)
    steps = steps or min(1000, max(1, round(TURN / guess)))
    times = {worker.name: [] for worker in workers}
    for number in range(rounds):
        start = number % len(workers)  # nobody is always behind the same one
        for worker in workers[start:] + workers[:start]:
            bar.set_description(f"round {number + 1}, {worker.name}")
            times[worker.name].append(worker.ask("turn", steps))
        best = peak.ask("turn")
        bar.update()
    return times, best, steps


def _row(conf: Config, worker, seconds: list[float], losses: list[float]) -> dict:
    facts = worker.ask("facts")
    low, high = spread(seconds)
    middle = median(seconds)
    compiled = "-compiled" in worker.name
    return {
        "form": worker.name,
        "ms": [1e3 * s for s in seconds],
        "median_ms": 1e3 * middle,
        "low_ms": 1e3 * low,
        "high_ms": 1e3 * high,
        "pictures_per_s": conf.train.batch_size / middle,
        "compile_s": max(0.0, facts["first_step_s"] - middle) if compiled else None,
        "losses": losses,
        "total_bytes": facts["standing_bytes"] + facts["peak_bytes"],
        **facts,
    }


def _judge(row: dict, facts: dict, times: dict, rows: list[dict]):
    """Add what a row is when held against the work to be done, and against autograd."""
    row["flop_per_s"] = facts["flops"] / row["median_ms"] * 1e3
    row["share_of_peak"] = row["flop_per_s"] / facts["peak_flop_per_s"]
    moved = row["moved_bytes"]
    row["moved_over_fewest"] = None if moved is None else moved / facts["fewest_bytes"]
    rival = next((r["form"] for r in rows if r["form"].startswith("autograd")), None)
    if rival:
        ratios = [a / b for a, b in zip(times[row["form"]], times[rival])]
        row["against"], row["ratio"] = rival, median(ratios)
        row["ratio_low"], row["ratio_high"] = spread(ratios)


def spread(values: list[float]) -> tuple[float, float]:
    """The quartiles; of fewer than four values, the smallest and the largest."""
    if len(values) < 4:
        return min(values), max(values)
    low, _, high = quantiles(values, n=4)
    return low, high
