"""The same curve: a config's first losses with hand-written gradients and with autograd.

Both train from the same weights on the same batches.
"""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from nets.bench.forms import parameter_groups, turn_off_dropout
from nets.common.errors import UsageError
from nets.layers.base import sum_dtype
from nets.layers.to_module import to_module
from nets.optim import schedules
from nets.optim.sgd import SGD
from nets.training.run import Run

# largest relative difference of two losses: rounding errors grow with every step
TOLERANCE = {"float64": 1e-10, "float32": 1e-3, "bfloat16": 5e-2}


class AutogradTwin:
    """A run's net in torch.nn, with autograd for its backward and torch.optim's SGD for its update."""

    def __init__(self, run: Run):
        if type(run.optimizer) is not SGD:
            raise UsageError(
                f"train.optimizer: torch.optim has no equivalent of {run.config.train.optimizer}"
            )
        self.module, self.loss = to_module(run.net), run.loss
        groups = parameter_groups(run.config, run.net, self.module, run.loss.maximize, lr_factor=1.0)
        self.lrs = [group["lr"] for group in groups]
        self.optimizer = torch.optim.SGD(groups, lr=0.0)

    def step(self, x: Tensor, target: Tensor, lr_factor: float) -> Tensor:
        for group, lr in zip(self.optimizer.param_groups, self.lrs):
            group["lr"] = lr * lr_factor
        z = self.module(x)
        value = self.loss.torch_loss(z.to(sum_dtype(z)), target)
        self.optimizer.zero_grad()
        value.backward()
        self.optimizer.step()
        return value.detach()


def curves(run: Run, steps: int) -> Iterator[tuple[float, float]]:
    """Yield (loss by hand, loss by autograd) for the first steps of a run, with dropout off.

    Dropout is off because the two draw random numbers in different orders.
    """
    turn_off_dropout(run.net)
    twin, t = AutogradTwin(run), run.config.train
    lr_factor, warmup = torch.ones((), device=run.device), round(t.warmup_epochs * run.per_epoch[0])
    all_batches = (batch for epoch in itertools.count() for batch in run.feed(epoch))
    for i, (_, x, target) in enumerate(itertools.islice(all_batches, steps)):
        now = schedules.lr_factor(t.schedule, i, run.steps, warmup)
        theirs = twin.step(x, target, now)
        yield run.learner.step(x, target, lr_factor.fill_(now))[0].item(), theirs.item()


def compare(run: Run, steps: int) -> Iterator[tuple[float, float, float, bool]]:
    """Yield (loss by hand, loss by autograd, their relative difference, is it small enough?)."""
    least = None  # a loss near 0 is compared with a tenth of the first
    for ours, theirs in curves(run, steps):
        least = least or 0.1 * abs(theirs)
        difference = abs(ours - theirs) / max(abs(theirs), least)
        yield ours, theirs, difference, difference <= TOLERANCE[run.config.train.dtype]
