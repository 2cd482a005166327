"""The guard: a step whose loss or update isn't finite changes nothing.

The loss and the new weights are checked on the device, before the weights are written. A gradient or a
momentum that isn't finite makes a new weight that isn't, so these need no check of their own. The answer
stays on the device and decides which values are written, so the host doesn't wait. The host reads the
answer when it reads a number anyway.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class Guard:
    """update(optimizer, grads, lr_factor, loss) takes the optimizer's step if it is finite.

    policy    "stop": after the first step that isn't finite no step counts, so the net stays as it was
              before that step. "skip": only that step doesn't count
    all_true  ok () on this process -> ok on all processes, for weights of which each updates a part
    good      (), is every step so far finite? With "skip" always true
    skipped   (), the number of steps that weren't, with "skip"
    loss      (), of the step that wasn't; of the last step while all are
    """

    def __init__(self, policy: str, device, all_true=lambda ok: ok):
        self.policy, self.all_true = policy, all_true
        self.good = torch.ones((), dtype=torch.bool, device=device)
        self.skipped = torch.zeros((), dtype=torch.int64, device=device)
        self.loss = torch.zeros((), device=device)

    def update(self, optimizer, grads: dict[str, Tensor], lr_factor, loss: Tensor, statistics=()) -> Tensor:
        """The optimizer's step, unless it isn't finite. Returns ok (), a bool on the device: was it?

        statistics: pairs (tensor, its value before the step) of what forward has changed. They are checked,
        and restored too.
        """
        others = list(statistics)
        averages = [t for t, _ in others if t.is_floating_point()]
        if hasattr(optimizer, "updates"):
            weights, momenta = optimizer.updates(grads, lr_factor)
            ok = self.check(loss, [*(new for _, new in weights), *averages])
            for pairs in (weights, momenta):
                for t, new in pairs:
                    torch.where(ok, new.to(t.dtype), t, out=t)
            optimizer.updated()
        else:
            now = optimizer.params, optimizer.state()
            before = [{k: t.clone() for k, t in tensors.items()} for tensors in now]
            optimizer.step(grads, lr_factor, loss)
            now = optimizer.params, optimizer.state()  # a step may put other tensors there
            others += [(new[k], t) for new, old in zip(now, before) for k, t in old.items()]
            ok = self.check(loss, [*optimizer.params.values(), *averages])
        for t, old in others:
            torch.where(ok, t, old, out=t)
        return ok

    def check(self, loss: Tensor, tensors: Sequence[Tensor] = ()) -> Tensor:
        """Whether all are finite, and no earlier step was to stop the run: a bool () on the device."""
        ok = self.all_true(_largest([loss, *tensors]) < math.inf)  # NaN is less than nothing
        loss = loss.to(self.loss.dtype)
        if self.policy == "skip":
            torch.where(ok, self.loss, loss, out=self.loss)
            self.skipped.add_(~ok)
            return ok
        torch.where(self.good, loss, self.loss, out=self.loss)
        return self.good.logical_and_(ok).clone()

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
            f"an updated weight became infinite or NaN (loss {loss:.4g})"
            if math.isfinite(loss)
            else f"the loss became {loss}"
        )


def _largest(tensors: list[Tensor]) -> Tensor:
    """The largest magnitude (), or NaN if there is one."""
    if tensors[0].device.type == "cpu":  # where the library's norm takes twenty times as long
        return torch.stack([end for t in tensors for end in t.aminmax()]).abs().max()
    return torch.stack(torch._foreach_norm(tensors, math.inf)).max()  # pyright: ignore[reportPrivateImportUsage]
