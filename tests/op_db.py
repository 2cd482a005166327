"""PyTorch's own cases: the inputs that it tests its operators with, through our layers.

    python -m tests.op_db            # --write puts the table and the reasons into docs/torch-cases.md

prints, for each operator that a layer of ours serves, how many inputs torch offers, how many the
layer takes and how many of these pass: in float64, forward and backward, against autograd of the
operator itself. What a layer doesn't take it must refuse, in words, by itself.

An adapter below has its operator's signature and says which layer does the same. What is called
`weight` there is the layer's params["weight"], and so for biases and running statistics.
"""

import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from unittest import mock

import torch
from hypothesis import settings
from torch import Tensor

from nets.common.errors import Problem
from nets.gradcheck import compare
from nets.kernels import BACKENDS, lower
from nets.layers.activations import GELU, ReLU, Sigmoid, SiLU, Tanh
from nets.layers.adaptive_pool import AdaptiveAvgPool2d
from nets.layers.base import Layer
from nets.layers.conv import Conv2d
from nets.layers.dropout import Dropout
from nets.layers.linear import Flatten, Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import AvgPool2d, GlobalMaxPool, MaxPool2d
from nets.layers.response_norm import LocalResponseNorm
from nets.losses import CrossEntropyLoss, MSELoss

PROFILE = settings.get_current_profile_name()  # of hypothesis: torch sets its own
with mock.patch("torch.backends.disable_global_flags"):  # else no flag can be set afterwards
    from torch.testing._internal.common_methods_invocations import op_db
settings.load_profile(PROFILE)

PAGE = Path(__file__).parents[1] / "docs" / "torch-cases.md"
FORWARD, BACKWARD = 1e-12, 1e-10
REFUSED = (ValueError, TypeError, Problem)


class Unsupported(ValueError):
    """No layer has an option for this."""


@dataclass
class Case:
    """What torch's operator does, as one of our layers or losses does it."""

    layer: object
    x: Tensor
    target: Tensor | None = None  # of a loss
    oracle: Callable | None = None  # (x, saved) -> y, where the operator itself draws at random
    laid_out: bool = False  # y and dx have our shapes, torch's have or lack dimensions of 1


def asked(options: dict, **off) -> dict:
    """The options, without those that torch's caller left off: no layer need know them."""
    return {k: v for k, v in options.items() if k not in off or v != off[k]}


def elementwise(layer):
    return lambda x, **options: Case(layer(**options), x)


def linear(x, weight, bias=None):
    return Case(Linear(weight.shape[1], weight.shape[0], bias is not None), x)


def flatten(x, start_dim=0, end_dim=-1):
    options = dict(start_dim=start_dim, end_dim=-1 if end_dim == x.dim() - 1 else end_dim)
    return Case(Flatten(**asked(options, start_dim=1, end_dim=-1)), x)


def dropout(x, p=0.5, training=True):
    layer = Dropout(p)
    layer.train(training)
    draws = training and 0 < p < 1
    return Case(layer, x, oracle=(lambda x, mask: x * mask / (1 - p)) if draws else None)


def conv2d(x, weight, bias=None, *, groups=1, **options):
    channels, size = weight.shape[1] * groups, tuple(weight.shape[2:])
    layer = Conv2d(channels, len(weight), size, groups=groups, bias=bias is not None, **options)
    return Case(layer, x)


def max_pool2d(x, *, return_indices=False, **options):
    return Case(MaxPool2d(**asked(options, ceil_mode=False)), x)


def avg_pool2d(x, kernel_size, stride=None, padding=0, *rest, **options):
    options |= zip(("ceil_mode", "count_include_pad", "divisor_override"), rest)
    options = asked(options, ceil_mode=False, count_include_pad=True, divisor_override=None)
    return Case(AvgPool2d(kernel_size, stride, padding, **options), x)


def sizes(x, output_size):
    both = output_size if isinstance(output_size, tuple) else (output_size, output_size)
    return [n if out is None else out for n, out in zip(x.shape[-2:], both)]


def adaptive_avg_pool2d(x, output_size):
    return Case(AdaptiveAvgPool2d(sizes(x, output_size)), x)


def adaptive_max_pool2d(x, output_size, return_indices=False):
    """The whole picture's largest, or, where windows come out alike, a plain pool."""
    places = list(zip(x.shape[-2:], sizes(x, output_size)))
    if all(out == 1 for _, out in places):
        return Case(GlobalMaxPool(), x, laid_out=True)
    if any(n % out for n, out in places):
        raise Unsupported(f"a pool's windows are all of one size, not as {places} needs")
    return Case(MaxPool2d([n // out for n, out in places]), x)


def batch_norm(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    layer = BatchNorm2d(x.shape[:2][-1], eps, momentum, affine=weight is not None)
    layer.train(training)
    if x.dim() in (2, 3):  # (N, C) and (N, C, L) are pictures of one column
        return Case(layer, x.reshape(*x.shape, *[1] * (4 - x.dim())), laid_out=True)
    return Case(layer, x)


def native_batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps):
    return batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)


def batch_norm_with_update(x, weight, bias, running_mean, running_var, momentum, eps):
    return batch_norm(x, running_mean, running_var, weight, bias, True, momentum, eps)


def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0):
    return Case(LocalResponseNorm(size, alpha, beta, k), x)


def cross_entropy(z, target, **options):
    return Case(CrossEntropyLoss(**options), z, target)


def mse_loss(z, target, **options):
    return Case(MSELoss(**options), z, target)


ADAPTERS = {
    "nn.functional.linear": linear,
    "flatten": flatten,
    "sigmoid": elementwise(Sigmoid),
    "tanh": elementwise(Tanh),
    "nn.functional.relu": elementwise(ReLU),
    "nn.functional.gelu": elementwise(GELU),
    "nn.functional.silu": elementwise(SiLU),
    "nn.functional.dropout": dropout,
    "nn.functional.conv2d": conv2d,
    "nn.functional.max_pool2d": max_pool2d,
    "nn.functional.avg_pool2d": avg_pool2d,
    "nn.functional.adaptive_max_pool2d": adaptive_max_pool2d,
    "nn.functional.adaptive_avg_pool2d": adaptive_avg_pool2d,
    "nn.functional.batch_norm": batch_norm,
    "native_batch_norm": native_batch_norm,
    "_batch_norm_with_update": batch_norm_with_update,
    "nn.functional.local_response_norm": local_response_norm,
    "nn.functional.cross_entropy": cross_entropy,
    "nn.functional.mse_loss": mse_loss,
}
OPS = {op.name: op for op in op_db if op.name in ADAPTERS and not op.variant_test_name}


@dataclass
class Outcome:
    """What became of one operator's cases."""

    offered: int = 0
    passed: int = 0
    wrong: list[str] = field(default_factory=list)
    refused: Counter = field(default_factory=Counter)  # reason -> how many

    @property
    def supported(self) -> int:
        return self.offered - self.refused.total()


def named(adapter, sample) -> dict:
    """The sample's arguments by name."""
    bound = inspect.signature(adapter).bind(sample.input, *sample.args, **sample.kwargs)
    return bound.arguments


def forward(adapter, sample, backend: str):
    """(case, y, saved) by our layer, in a backend's form, with the sample's parameters; a loss saves dz."""
    case = adapter(sample.input, *sample.args, **sample.kwargs)
    if not isinstance(case.layer, Layer):
        return case, *case.layer(case.x, case.target)
    for tensors in (case.layer.params, case.layer.buffers):
        for name, ours in tensors.items():
            given = named(adapter, sample).get(name)
            tensors[name] = ours.to(case.x.dtype) if given is None else given.clone()
    case.layer = lower(case.layer, backend, "cpu", torch.float64)
    return case, *case.layer.forward(case.x)


def differences(op, adapter, sample, backend: str):
    """Yield (what, ours, torch's, allowed relative difference); or raise one of REFUSED at once."""
    case, y, saved = forward(adapter, sample, backend)
    is_layer = isinstance(case.layer, Layer)
    params, buffers = (case.layer.params, case.layer.buffers) if is_layer else ({}, {})

    arguments = named(adapter, sample)
    wanted = [sample.input, *(arguments[name] for name in params)]
    leaves = {id(t): t.clone() for t in (*wanted, *map(arguments.get, buffers)) if t is not None}
    for t in wanted:
        leaves[id(t)].requires_grad_()

    def leaf(value):
        return leaves.get(id(value), value)

    if case.oracle:
        oracle = case.oracle(leaf(sample.input), saved)
    else:
        kwargs = {k: leaf(v) for k, v in sample.kwargs.items()}
        oracle = op(leaf(sample.input), *map(leaf, sample.args), **kwargs)
        oracle = oracle[0] if isinstance(oracle, tuple) else oracle

    dy = torch.randn_like(y) if is_layer else torch.ones_like(y)
    dx, grads = case.layer.backward(saved, dy) if is_layer else (saved, {})
    assert grads.keys() == params.keys()
    found = torch.autograd.grad(oracle, map(leaf, wanted), dy.reshape(oracle.shape))
    if case.laid_out:
        y, dx = y.reshape(oracle.shape), dx.reshape(sample.input.shape)
    yield "y", y, oracle, FORWARD, 0.0
    for name, statistic in buffers.items():
        if arguments.get(name) is not None:
            yield name, statistic, leaf(arguments[name]), FORWARD, 0.0
    floor = 1e-3 * dy.abs().max().item() if dy.numel() else 0.0  # for what is 0 but for rounding
    for name, ours, theirs in zip(("dx", *params), (dx, *(grads[k] for k in params)), found):
        yield name, ours, theirs, BACKWARD, floor


def shown(sample) -> str:
    """The sample's arguments, tensors as their shapes."""
    words = [tuple(v.shape) if isinstance(v, Tensor) else v for v in (sample.input, *sample.args)]
    words += [f"{k}={tuple(v.shape) if isinstance(v, Tensor) else v}" for k, v in sample.kwargs.items()]
    return ", ".join(map(str, words))


def examine(name: str, every: int = 1) -> Outcome:
    """Take every case of an operator, or every k-th, through our layer: in each of its forms."""
    torch.manual_seed(0)
    op, adapter, outcome = OPS[name], ADAPTERS[name], Outcome()
    for sample in islice(op.reference_inputs("cpu", torch.float64), 0, None, every):
        outcome.offered += 1
        wrong, forms = [], {}
        try:
            for backend in BACKENDS:
                forms.setdefault(type(forward(adapter, sample, backend)[0].layer), backend)
        except REFUSED as e:
            outcome.refused[str(e).split(", not ")[0]] += 1
            continue
        for backend in forms.values():
            for what, ours, theirs, allowed, floor in differences(op, adapter, sample, backend):
                relative = compare(ours, theirs, floor)[1]
                if not relative <= allowed:
                    wrong.append(f"{shown(sample)}: {what} ({backend}) off by {relative:.1e}")
        outcome.wrong += wrong
        outcome.passed += not wrong
    return outcome


def report(outcomes: dict[str, Outcome]) -> str:
    """A table of the counts, and the reasons of what was refused, as Markdown."""
    lines = ["| operator | offered | supported | passed |", "|---|---:|---:|---:|"]
    lines += [f"| `{k}` | {o.offered:,} | {o.supported:,} | {o.passed:,} |" for k, o in outcomes.items()]
    total = (sum(getattr(o, k) for o in outcomes.values()) for k in ("offered", "supported", "passed"))
    lines += [f"| all | {' | '.join(f'{n:,}' for n in total)} |", ""]
    for name, outcome in outcomes.items():
        lines += [f"- `{name}`, {n:,}: {reason}" for reason, n in outcome.refused.most_common()]
    return "\n".join(lines)


def write(text: str):
    """Replace the table and the reasons in the page."""
    page = PAGE.read_text(encoding="utf-8")
    table, _, reasons = text.partition("\n\n")
    version = torch.__version__.split("+")[0]
    page = re.sub(r"torch \d+\.\d+\.\d+", f"torch {version}", page)
    page = re.sub(r"^\| operator .*?(?=\n\n)", lambda _: table, page, flags=re.M | re.S)
    page = re.sub(r"^- `.*?(?=\n\n)", lambda _: reasons, page, flags=re.M | re.S)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    outcomes = {name: examine(name) for name in ADAPTERS}
    print(report(outcomes), *(w for o in outcomes.values() for w in o.wrong), sep="\n")
    if "--write" in sys.argv[1:]:
        write(report(outcomes))
