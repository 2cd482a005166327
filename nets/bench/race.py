"""The race: all forms train the same net, and take turns in rounds."""

import math
from statistics import median, quantiles

import torch
from tqdm import tqdm

from nets.bench import forms, work
from nets.bench.worker import Runner, Worker
from nets.common.errors import MismatchError, NonFiniteError
from nets.training.build import build
from nets.training.config import Config

LOSSES = 5  # first steps whose losses are compared
# largest relative difference of two losses: sums in another order, amplified over the first steps
TOLERANCE = {"float64": 1e-9, "float32": 1e-5, "muon": 1e-4, "tf32": 2e-3, "bfloat16": 2e-3}
TURN = 0.5  # least seconds of a turn, unless the number of steps is given


def race(
    task: forms.Task, form_list: list[forms.Form], rounds: int, steps: int = 0, profile: int = 0
) -> dict:
    """The results of every form. MismatchError if their losses differ.

    steps    in a turn; 0: as many as the fastest form takes TURN seconds for
    profile  steps to profile afterwards, by layer or kernel
    """
    conf = task.config
    with torch.device("meta"):  # finds a batch shape that doesn't fit before any process starts
        net, _ = build(conf.net.layers, task.shape)
        net.forward(torch.empty(conf.train.batch_size, *task.shape))
    least = least_work(task)
    workers = [Worker(Runner, task, form, name=form.name) for form in form_list]
    dtype = getattr(torch, conf.train.dtype)
    peak = Worker(work.PeakRate, task.device, dtype, name="the machine's peak")
    try:
        with tqdm(total=len(form_list) + rounds, disable=None, leave=False) as bar:
            losses = {}
            for worker in workers:
                bar.set_description(f"{worker.name}, building")
                losses[worker.name] = worker.call("losses", LOSSES)
                bar.update()
            compare(losses, loss_tolerance(conf, task.device))
            times, best, steps = _rounds(workers, peak, rounds, steps, bar)
        results = [_result(conf, w, times[w.name], losses[w.name]) for w in workers]
        profiles = {w.name: w.call("profile", profile) for w in workers} if profile else {}
    finally:
        for worker in (*workers, peak):
            worker.close()
    facts = {"rounds": rounds, "steps": steps, "peak_flop_per_s": best} | least
    for result in results:
        _add_ratios(result, facts, times, results)
    return facts | {"forms": results} | ({"profiles": profiles} if profile else {})


def least_work(task: forms.Task) -> dict:
    """The least arithmetic and memory traffic of a step, and the number of parameters."""
    net, _, x, _ = forms.prepare(forms.Task(task.config, task.shape, task.outputs, torch.device("cpu")))
    fewest = work.fewest_bytes(net, x, task.config.train.momentum > 0)
    parameters = sum(p.numel() for p in net.params.values())
    return {"flops": work.useful_flops(net, x), "fewest_bytes": fewest, "parameters": parameters}


def loss_tolerance(conf: Config, device: torch.device) -> float:
    """The largest relative difference of two losses.

    In float32, Muon's products and CUDA's TF32 products have fewer bits.
    """
    kind = conf.train.dtype
    if kind == "float32":
        kind = "muon" if conf.train.optimizer == "muon" else kind
        kind = "tf32" if device.type == "cuda" and torch.backends.cudnn.allow_tf32 else kind
    return TOLERANCE[kind]


def compare(losses: dict[str, list[float]], tolerance: float):
    """MismatchError unless the first losses of all forms agree with the first form's.

    The allowed difference is a share of the loss plus a larger share of its change since the first
    step. A form that doesn't train, or trains at half the rate, fails.
    """
    (first, wanted), *others = losses.items()
    for name, found in losses.items():
        if not all(map(math.isfinite, found)):
            steps = f"{len(found)} steps"
            raise NonFiniteError(f"{name}: the loss became {found[-1]} in {steps}; lower train.lr")
    for name, found in others:
        for step, (a, b) in enumerate(zip(found, wanted)):
            if abs(a - b) > tolerance * max(abs(b) + 25 * abs(b - wanted[0]), 1e-3):
                raise MismatchError(
                    f"{name} and {first} train differently: in step {step + 1} the loss of {name} is {a:.6g},"
                    f" that of {first} is {b:.6g}"
                )


def _rounds(workers, peak, rounds: int, steps: int, bar) -> tuple[dict[str, list[float]], float, int]:
    """(form -> seconds per step in each round, the machine's best rate, steps in a turn)."""
    guess = min(worker.call("turn", 1) for worker in workers)
    steps = steps or min(1000, max(1, round(TURN / guess)))
    times, best = {worker.name: [] for worker in workers}, 0.0
    for number in range(rounds):
        start = number % len(workers)  # another form begins each round
        for worker in workers[start:] + workers[:start]:
            bar.set_description(f"round {number + 1}, {worker.name}")
            times[worker.name].append(worker.call("turn", steps))
        best = peak.call("turn")
        bar.update()
    return times, best, steps


def _result(conf: Config, worker, seconds: list[float], losses: list[float]) -> dict:
    facts = worker.call("facts")
    low, high = quartiles(seconds)
    middle = median(seconds)
    compiled = "-compiled" in worker.name
    return {
        "form": worker.name,
        "ms": [1e3 * s for s in seconds],
        "median_ms": 1e3 * middle,
        "low_ms": 1e3 * low,
        "high_ms": 1e3 * high,
        "samples_per_s": conf.train.batch_size / middle,
        "compile_s": max(0.0, facts["first_step_s"] - middle) if compiled else None,
        "losses": losses,
        "total_bytes": facts["persistent_bytes"] + facts["peak_bytes"],
        **facts,
    }


def _add_ratios(result: dict, facts: dict, times: dict, results: list[dict]):
    """Add a result's ratios to the least work, to the machine's best rate and to autograd's time."""
    result["flop_per_s"] = facts["flops"] / result["median_ms"] * 1e3
    result["share_of_peak"] = result["flop_per_s"] / facts["peak_flop_per_s"]
    moved = result["moved_bytes"]
    result["moved_over_fewest"] = None if moved is None else moved / facts["fewest_bytes"]
    baseline = next((r["form"] for r in results if r["form"].startswith("autograd")), None)
    if baseline:
        ratios = [a / b for a, b in zip(times[result["form"]], times[baseline])]
        result["baseline"], result["ratio"] = baseline, median(ratios)
        result["ratio_low"], result["ratio_high"] = quartiles(ratios)


def quartiles(values: list[float]) -> tuple[float, float]:
    """The first and third quartile; of fewer than four values, the smallest and the largest."""
    if len(values) < 4:
        return min(values), max(values)
    low, _, high = quantiles(values, n=4)
    return low, high
