"""Selective training: some of the easy samples skip an epoch.

A sample's score is the size of its gradient at the net's output, Σ_k |dz_k|, when it was last used.
Of the half with the lower scores, a random share skips the epoch. The rest of that half gets a
larger weight, so the expected gradient stays the same. Skipped samples cost neither a forward nor
a backward.
Source: Qin et al. 2023, "InfoBatch"; Jiang et al. 2019, "Accelerating deep learning by focusing
on the biggest losers".
"""

import torch
from torch import Tensor

from nets.data.sampler import EpochPlan, epoch_generator


class Selection:
    """Which samples skip an epoch.

    scores   (n) float32, the score of each sample; infinity until it is known
    weight   (n) float32, the weight of each sample in this epoch; 0 if it is skipped
    updated  (n) bool, scores that this process has set since the last `synchronize`
    """

    def __init__(self, n: int, skip_fraction: float, skip_after_epochs: int, device: torch.device):
        """skip_fraction: of the easy half, 0 to 1. The first skip_after_epochs epochs skip nothing."""
        self.skip_fraction, self.skip_after_epochs = skip_fraction, skip_after_epochs
        self.scores = torch.full((n,), torch.inf, device=device)
        self.weight = torch.ones(n, device=device)
        self.updated = torch.zeros(n, dtype=torch.bool, device=device)

    def num_skipped(self, epoch: int) -> int:
        """How many samples skip the epoch."""
        return int(len(self.scores) // 2 * self.skip_fraction) if epoch >= self.skip_after_epochs else 0

    def select(self, plan: EpochPlan, seed: int, epoch: int) -> EpochPlan:
        """Draw which samples skip the epoch and set `weight`; returns the plan without them."""
        self.weight.fill_(1)
        skipped = self.num_skipped(epoch)
        if not skipped:
            return plan
        easy = self.scores.argsort(stable=True)[: len(self.scores) // 2]
        drawn = torch.randperm(len(easy), generator=epoch_generator(seed, epoch)).to(easy.device)
        self.weight[easy] = len(easy) / (len(easy) - skipped)
        self.weight[easy[drawn[:skipped]]] = 0
        return self.drop_skipped(plan)

    def drop_skipped(self, plan: EpochPlan) -> EpochPlan:
        """The plan without the samples of weight 0. A resumed epoch needs this alone: its draw is saved."""
        return plan.select(self.weight[plan.order] > 0) if self.skip_fraction else plan

    def update(self, indices: Tensor, scores: Tensor):
        """Set the scores (B) of the samples `indices` (B)."""
        self.scores[indices] = scores
        self.updated.index_fill_(0, indices, True)  # `= True` would copy a number from the host

    def synchronize(self, world):
        """Exchange the updated scores among all processes; a collective call."""
        world.merge(self.scores, self.updated)
        self.updated.fill_(False)
