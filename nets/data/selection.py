"""Selective training: a picture that has little left to teach may sit an epoch out.

What a picture teaches is the size of its gradient at the output, Σ_k |dz_k|, as it was when the
picture was last seen. Of the half that teaches less, a share drawn by chance sits out, and the
others of that half count for as much more, so that the gradient to be expected stays the same.
Nothing is computed for the pictures that sit out, neither forward nor backward.
Source: Qin et al. 2023, "InfoBatch"; Jiang et al. 2019, "Accelerating deep learning by focusing
on the biggest losers".
"""

import torch
from torch import Tensor

from nets.data.batches import Plan, generator


class Selection:
    """Who sits out. lessons (N): what each of n samples taught last, unknown to begin with."""

    def __init__(self, n: int, share: float, after: int, device: torch.device):
        self.share, self.after = share, after
        self.lessons = torch.full((n,), torch.inf, device=device)
        self.weight = torch.ones(n, device=device)
        self.mine = torch.zeros(n, dtype=torch.bool, device=device)  # noted here, and not by another process

    def out(self, epoch: int) -> int:
        """How many samples sit out."""
        return int(len(self.lessons) // 2 * self.share) if epoch >= self.after else 0

    def choose(self, plan: Plan, seed: int, epoch: int) -> Plan:
        """The epoch's plan without those who sit out; `weight` (N) is what each sample counts for."""
        self.weight.fill_(1)
        out = self.out(epoch)
        if not out:
            return plan
        easy = self.lessons.argsort(stable=True)[: len(self.lessons) // 2]
        drawn = torch.randperm(len(easy), generator=generator(seed, epoch)).to(easy.device)
        self.weight[easy] = len(easy) / (len(easy) - out)
        self.weight[easy[drawn[:out]]] = 0
        return self.chosen(plan)

    def chosen(self, plan: Plan) -> Plan:
        """The plan of an epoch that has been chosen from before, once more."""
        return plan.only(self.weight[plan.order] > 0) if self.share else plan

    def note(self, order: Tensor, lessons: Tensor):
        """What samples `order` (B) have taught."""
        self.lessons[order] = lessons
        self.mine.index_fill_(0, order, True)  # = True would send a number from the host

    def merge(self, world):
        """Learn what other processes have noted; all have to ask."""
        world.merge(self.lessons, self.mine)
        self.mine.fill_(False)
