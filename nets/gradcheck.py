"""Are the hand-written gradients right? Manual against autograd against finite differences.

    python -m nets.gradcheck [CONFIG] [--device D] [--dtype float64|float32|bfloat16]

A difference is given relative to the largest entry of autograd's gradient for that tensor.
"""

import copy
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from nets import checkpoint, cli, config, data, device, trainer, twin
from nets.errors import MismatchError, UsageError
from nets.trace import Trace, generator_state

# How large a relative difference rounding can explain. Both sides round every sum and product,
# differently ordered, and what one layer rounds the layers behind it carry on: a few hundred
# to a few thousand roundings of 2.2e-16, 1.2e-7 or 7.8e-3. An error in a formula is of order 1.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 5e-2}
NET_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-2, torch.bfloat16: 0.5}
# A central difference in float64 with step h is off by about h² and by 2.2e-16 / h.
DIFFERENCE_TOLERANCE, STEPS = 1e-4, (1e-5, 1e-6, 1e-7)


@dataclass
class Row:
    """One tensor's gradient, manual against autograd, and against finite differences."""

    tensor: str
    shape: tuple[int, ...]
    absolute: float  # largest |manual − autograd|
    relative: float  # that over the largest |autograd|
    worst: tuple[int, ...]  # where
    manual: float  # the two values there
    autograd: float
    difference: float | None  # the same relative measure against finite differences
    ok: bool


@dataclass
class Report:
    """What a check found. first_bad is the first wrong layer in backward order, or ""."""

    mode: str
    dtype: str
    rows: list[Row] = field(default_factory=list)
    first_bad: str = ""

    @property
    def ok(self) -> bool:
        return not self.first_bad and all(row.ok for row in self.rows)

    def table(self) -> str:
        head = ("tensor", "shape", "max abs", "max rel", "worst at", "manual", "autograd", "finite diff", "")
        lines = [head]
        for r in self.rows:
            lines.append((
                *(r.tensor, "×".join(map(str, r.shape)), f"{r.absolute:.1e}", f"{r.relative:.1e}"),
                *(",".join(map(str, r.worst)), f"{r.manual:.6g}", f"{r.autograd:.6g}"),
                *("" if r.difference is None else f"{r.difference:.1e}", "ok" if r.ok else "WRONG"),
            ))  # fmt: skip
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        text = [f"{self.mode} mode, {self.dtype}; manual against autograd"]
        text += ["  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip() for line in lines]
        if self.first_bad:
            text.append(f"first wrong layer, from the loss backwards: {self.first_bad}")
        return "\n".join(text)


def compare(manual: Tensor, autograd: Tensor, floor: float = 0.0):
    """(largest absolute difference, relative, index, both values); NaN where only one has it.

    floor: the least number to divide by, for gradients that are 0 but for rounding.
    """
    if manual.shape != autograd.shape:
        return float("inf"), float("inf"), (), float("nan"), float("nan")
    if manual.numel() == 0:
        return 0.0, 0.0, (), 0.0, 0.0
    wide = torch.float64
    m, a = manual.detach().to(wide), autograd.detach().to(wide)
    gap = (m - a).abs()
    gap = torch.where((m == a) | (m.isnan() & a.isnan()), 0, gap).nan_to_num(float("inf"))
    at = tuple(int(i) for i in torch.unravel_index(gap.argmax(), gap.shape))
    largest = gap.max().item()
    scale = max(a[a.isfinite()].abs().max().item() if a.isfinite().any() else 0.0, floor)
    relative = largest / scale if scale else (0.0 if largest == 0 else float("inf"))
    return largest, relative, at, m[at].item(), a[at].item()


def check(layer, x: Tensor, dy=None, loss=None, target=None, samples: int = 4, seed: int = 0) -> Report:
    """Compare a layer's or net's gradients at x with autograd's and with finite differences.

    dy       the gradient at its output; drawn at random by default
    loss     instead of dy, with target: a loss of nets.loss that ends the net
    samples  entries a tensor that finite differences are made for (in float64; else none)

    A layer of your own needs no twin: autograd then differentiates its forward.
    The layer is left as it was.
    """
    layer = copy.deepcopy(layer)
    torch.manual_seed(seed)
    if loss is None and dy is None:
        dy = torch.randn_like(layer.forward(x)[0])
    mode = "training" if layer.training else "evaluation"
    report = Report(mode, str(x.dtype).removeprefix("torch."))

    with Trace(layer) as trace:
        torch.manual_seed(seed + 1)
        y, saved = layer.forward(x)
        if loss is not None:
            dy = loss(y, target)[1]
        dx, grads = layer.backward(saved, dy)

    def objective(y):
        return (y * dy).sum() if loss is None else twin.loss_value(loss, y, target)

    torch.manual_seed(seed + 1)
    _, oracle_dx, oracle_grads, _ = twin.differentiate(layer, x, objective=objective)
    report.first_bad = _first_bad(trace, y, dy, loss, target)

    manual = {"input": dx} | {k: grads[k] for k in oracle_grads if k in grads}
    oracle = {"input": oracle_dx} | oracle_grads
    largest = max((g.abs().max().item() for g in oracle.values() if g.numel()), default=0.0)
    limit = NET_TOLERANCE[x.dtype]
    for name, a in oracle.items():
        m = manual.get(name)
        if m is None:
            inf, nan = float("inf"), float("nan")
            row = Row(name, tuple(a.shape), inf, inf, (), nan, nan, None, False)
        else:
            found = compare(m, a, 1e-6 * largest)
            row = Row(name, tuple(a.shape), *found, None, found[1] <= limit)
            if x.dtype == torch.float64 and samples and m.shape == a.shape and m.numel():
                row.difference = _difference(layer, x, name, m, objective, samples, seed, largest)
                row.ok = row.ok and row.difference <= DIFFERENCE_TOLERANCE
        report.rows.append(row)
    extra = grads.keys() - oracle_grads.keys()
    if extra and not report.first_bad:
        report.first_bad = f"{type(layer).__name__}: gradients for {', '.join(sorted(extra))}, no such parameter"
    return report


def _first_bad(trace: Trace, y, dy, loss, target) -> str:
    """Each layer alone, given what it was given: whose gradient (or output) is off by itself?"""
    limit = TOLERANCE[y.dtype]
    if loss is not None:
        z = y.detach().clone().requires_grad_()
        (dz,) = torch.autograd.grad(twin.loss_value(loss, z, target), z)
        if compare(dy, dz)[1] > limit:
            return f"loss ({type(loss).__name__})"
    for call in trace.calls:
        generator_state(call.x.device, call.draws)  # a dropout's twin draws what it drew
        before, after = call.buffers
        for k, v in call.layer.buffers.items():
            v.copy_(before[k])  # and a norm's twin starts from the same statistics
        oracle_y, oracle_dx, oracle_grads, buffers = twin.differentiate(call.layer, call.x, call.dy)
        for k, v in call.layer.buffers.items():
            v.copy_(after[k])
        pairs = [("output", call.y, oracle_y)]
        pairs += [(k, after[k], v) for k, v in buffers.items()]
        pairs += [(k, call.grads.get(k), g) for k, g in oracle_grads.items()]
        pairs += [("input", call.dx, oracle_dx)]
        largest = max(g.abs().max().item() if g.numel() else 0.0 for _, _, g in pairs)
        for tensor, m, a in pairs:
            if m is None or compare(m, a, 1e-6 * largest)[1] > limit:
                return f"{call.name}, {tensor}"
    return ""


def _difference(layer, x, name, manual, objective, samples, seed, largest) -> float:
    """Largest relative gap between manual and central differences, over sampled entries of a tensor.

    At a kink within the step (ReLU at 0, a tie in a pool) the central difference is no derivative.
    A smaller step leaves most kinks behind. At one that stays, any slope between those on its two
    sides is right.
    """
    x = x.detach().clone()
    t = x if name == "input" else layer.params[name]
    scale = max(manual.abs().max().item(), 1e-3 * largest) or 1.0
    generator = torch.Generator().manual_seed(seed)

    def value():
        torch.manual_seed(seed + 1)
        return objective(layer.forward(x)[0]).item()

    here = value()

    def gap(at, h):
        middle = t[at].clone()
        t[at] = middle + h
        right = (value() - here) / h
        t[at] = middle - h
        left = (here - value()) / h
        t[at] = middle
        if abs(left - right) <= DIFFERENCE_TOLERANCE * scale:
            return abs((left + right) / 2 - manual[at].item()) / scale
        low, high = sorted((left, right))
        return max(low - manual[at].item(), manual[at].item() - high, 0.0) / scale

    worst = 0.0
    for i in torch.randperm(t.numel(), generator=generator)[:samples]:
        at, gaps = torch.unravel_index(i, t.shape), []
        for h in STEPS:
            gaps.append(gap(at, h))
            if gaps[-1] <= DIFFERENCE_TOLERANCE / 10:
                break
        worst = max(worst, min(gaps))
    return worst


def check_config(
    conf, where: torch.device, dtype: torch.dtype, batch: int = 4, samples: int = 4
) -> list[Report]:
    """Check a config's whole net, its loss included, in training and in evaluation mode."""
    shape, n_outputs = data.shapes(conf.data)
    net = trainer.make_net(conf, shape, n_outputs)
    net.to(where, torch.promote_types(dtype, torch.float32))
    classes = len(shape) == 3  # pictures have them, the toy sets want outputs
    loss = trainer.make_loss(conf, classes)
    generator = torch.Generator().manual_seed(conf.seed)
    x = torch.randn(batch, *shape, generator=generator).to(where, dtype)
    if len(shape) == 3 and conf.train.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    if classes:
        target = torch.randint(n_outputs, (batch,), generator=generator).to(where)
    else:
        target = torch.rand(batch, n_outputs, generator=generator).to(where, dtype)
    reports = []
    for mode in (True, False):
        net.train(mode)
        reports.append(check(net, x, loss=loss, target=target, samples=samples, seed=conf.seed))
    return reports


def main():
    parser = cli.parser(__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="configs/digits.toml", metavar="CONFIG")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=v", help="override a key")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtype", default="float64", choices=("float64", "float32", "bfloat16"))
    parser.add_argument("--batch", type=int, default=4, help="samples in the batch")
    parser.add_argument(
        "--samples", type=int, default=4, help="entries a tensor for finite differences (float64)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the report to FILE too")
    args = parser.parse_args()
    conf = config.load(args.config, args.set)
    where, dtype = device.pick(args.device), getattr(torch, args.dtype)
    if args.batch < 1 or args.samples < 0:
        raise UsageError("--batch must be at least 1, --samples at least 0")
    reports = check_config(conf, where, dtype, args.batch, args.samples)
    for report in reports:
        print(report.table(), end="\n\n")
    if args.json:
        facts = {"config": conf.name, "ok": all(r.ok for r in reports)}
        facts["reports"] = [asdict(r) | {"ok": r.ok} for r in reports]
        facts = json.loads(json.dumps(facts), parse_constant=lambda _: None)  # JSON has no NaN
        checkpoint.write(Path(args.json), json.dumps(facts, indent=2) + "\n")
    bad = next((r for r in reports if not r.ok), None)
    if bad:
        wrong = bad.first_bad or "tensor " + next(r.tensor for r in bad.rows if not r.ok)
        raise MismatchError(f"{conf.name}: gradient mismatch in {bad.mode} mode, first at {wrong}")
    print(f"{conf.name}: every gradient agrees")


if __name__ == "__main__":
    with cli.one_line_errors():
        main()
