"""What the steps so far add up to, kept on the device until somebody asks."""

import torch
from torch import Tensor


class Tally:
    """sums (3), float64: of the losses, of the right answers, and of the steps that counted."""

    def __init__(self, device):
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)

    def add(self, loss: Tensor, hits: Tensor, ok: Tensor | None = None):
        """One step's loss () and hits (), unless it isn't `ok` ()."""
        new = torch.stack([loss.double(), hits.double(), torch.ones_like(self.sums[0])])
        self.sums += new if ok is None else torch.where(ok, new, 0.0)

    def steps(self) -> int:
        """Waits for the device."""
        return int(self.sums[2])

    def means(self, batch: int, summed: bool) -> dict[str, float]:
        """Waits for the device. batch: samples a step; summed: is a step's loss their sum, not mean?"""
        loss, right, steps = self.sums.tolist()
        samples = steps * batch or float("nan")
        return {"loss": loss / (samples if summed else steps or float("nan")), "train_top1": right / samples}

    def reset(self):
        self.sums.zero_()
