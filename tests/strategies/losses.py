"""Cases for the property tests of losses, and each loss in torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch.nn import functional as F

from nets.losses import CrossEntropyLoss, MSELoss, Performance
from tests.strategies.numbers import DTYPES, LAYOUTS, VALUES, lay_out, numbers
from tests.strategies.sizes import whole


@dataclass(frozen=True)
class Loss:
    make: Callable  # (**options) -> loss
    options: st.SearchStrategy
    shapes: st.SearchStrategy  # of the output z
    targets: tuple[str, ...]
    reference: Callable  # (z, target, **options) -> the number


@dataclass(frozen=True)
class LossCase:
    kind: str
    options: dict[str, Any]
    shape: tuple[int, ...]
    target: str
    dtype: torch.dtype
    layout: str
    values: str
    seed: int

    def loss(self):
        return LOSSES[self.kind].make(**self.options)

    def tensors(self):
        """(z, target)"""
        generator = torch.Generator().manual_seed(self.seed)
        z = lay_out(numbers(self.shape, self.values, self.dtype, False, generator), self.layout)
        if self.target == "classes":
            return z, torch.randint(self.shape[-1], self.shape[:-1], generator=generator)
        return z, numbers(self.shape, "plain", self.dtype, False, generator)


def squares(z, target, reduction="sum", factor=1.0):
    if target.shape != z.shape:
        target = F.one_hot(target, z.shape[-1])
    return factor * F.mse_loss(z, target.to(z.dtype), reduction=reduction)


def cross_entropy(z, target, label_smoothing, reduction):
    if label_smoothing < 1:
        return F.cross_entropy(z, target, label_smoothing=label_smoothing, reduction=reduction)
    means = -F.log_softmax(z, 1).mean(1)  # where torch multiplies by 0 what may be infinite
    return means.mean() if reduction == "mean" else means.sum()


reductions = st.sampled_from(["mean", "sum"])


rows = st.tuples(whole(0, 4), whole(1, 5))


LOSSES = {
    "CrossEntropyLoss": Loss(
        CrossEntropyLoss,
        st.fixed_dictionaries({"label_smoothing": st.sampled_from([0.0, 0.1, 1.0]), "reduction": reductions}),
        rows,
        ("classes",),
        cross_entropy,
    ),
    "Performance": Loss(
        Performance, st.just({}), rows, ("classes", "outputs"), lambda z, d: squares(z, d, factor=-0.5)
    ),
    "MSELoss": Loss(
        MSELoss,
        st.fixed_dictionaries({"reduction": reductions}),
        rows | st.tuples(whole(0, 3), whole(1, 3), whole(1, 4)),
        ("classes", "outputs"),
        squares,
    ),
}


@st.composite
def loss_cases(draw, name: str):
    kind = LOSSES[name]
    shape, targets = draw(kind.shapes), kind.targets
    if shape[-1] == 1 and "outputs" in targets:
        targets = ("outputs",)  # one output is no class: tests/test_losses.py has the error
    return LossCase(
        *(name, draw(kind.options), shape, draw(st.sampled_from(targets))),
        dtype=draw(st.sampled_from(DTYPES)),
        layout=draw(st.sampled_from(LAYOUTS)),
        values=draw(st.sampled_from(VALUES)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )
