"""A step that isn't finite changes nothing.

Loss and gradients are looked at on the device, before the update, and the answer stays there: the
update is written through it, and nobody waits. The host looks when it reads a number anyway.
"""

import math

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm


class Guard:
    """check(loss, grads) -> ok (), a bool on the device.

    policy     "stop": after the first step that isn't finite none counts, so that the net stays as it
               was before it; "skip": that step alone doesn't count
    every      makes of this process's answer all processes', where gradients are in pieces
    good       (), is every step so far finite? with "skip" always
    skipped    (), how many weren't, with "skip"
    loss       (), of the last that wasn't
    """

    def __init__(self, policy: str, device, every=lambda ok: ok):
        self.policy, self.every = policy, every
        self.good = torch.ones((), dtype=torch.bool, device=device)
        self.skipped = torch.zeros((), dtype=torch.int64, device=device)
        self.loss = torch.zeros((), device=device)

    def check(self, loss: Tensor, grads: dict[str, Tensor]) -> Tensor:
        largest = get_total_norm([loss, *grads.values()], norm_type=math.inf)  # NaN is larger than all
        ok = self.every(largest.isfinite())
        self.loss.copy_(torch.where(self.good & ~ok, loss, self.loss))
        if self.policy == "skip":
            self.skipped.add_(~ok)
            return ok
        self.good.logical_and_(ok)
        return self.good.clone()

    def message(self, limit: int) -> str:
        """What is wrong, in words; nothing while all is finite or no more than `limit` steps were skipped.

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
