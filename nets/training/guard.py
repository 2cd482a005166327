"""The guard: a step with a loss or gradient that isn't finite changes nothing.

Loss and gradients are checked on the device, before the update. The answer stays there and decides which
values the update writes, so the host doesn't wait. The host reads the answer when it reads a number anyway.
"""

import math

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm


class Guard:
    """check(loss, grads) -> ok (), a bool on the device.

    policy    "stop": after the first step that isn't finite no step counts, so the net stays as it was
              before that step. "skip": only that step doesn't count
    all_true  ok () on this process -> ok on all processes, for gradients of which each has a part
    good      (), is every step so far finite? With "skip" always true
    skipped   (), the number of steps that weren't, with "skip"
    loss      (), of the last step that wasn't
    """

    def __init__(self, policy: str, device, all_true=lambda ok: ok):
        self.policy, self.all_true = policy, all_true
        self.good = torch.ones((), dtype=torch.bool, device=device)
        self.skipped = torch.zeros((), dtype=torch.int64, device=device)
        self.loss = torch.zeros((), device=device)

    def check(self, loss: Tensor, grads: dict[str, Tensor]) -> Tensor:
        largest = get_total_norm([loss, *grads.values()], norm_type=math.inf)  # NaN is larger than all
        ok = self.all_true(largest.isfinite())
        self.loss.copy_(torch.where(self.good & ~ok, loss, self.loss))
        if self.policy == "skip":
            self.skipped.add_(~ok)
            return ok
        self.good.logical_and_(ok)
        return self.good.clone()

    def state(self) -> dict[str, Tensor]:
        """The tensors that it keeps from step to step, by name."""
        return {"good": self.good, "skipped": self.skipped, "loss": self.loss}

    def message(self, limit: int) -> str:
        """What is wrong, or "" while all is finite or at most `limit` steps were skipped.

        Waits for the device.
        """
        if self.policy == "skip":
            skipped = int(self.skipped)
            return (
                f"{skipped} steps weren't finite, train.max_nonfinite_steps is {limit},"
                if skipped > limit
                else ""
            )
        if bool(self.good):
            return ""
        loss = self.loss.item()
        return (
            f"a gradient became infinite or NaN (loss {loss:.4g})"
            if math.isfinite(loss)
            else f"the loss became {loss}"
        )
