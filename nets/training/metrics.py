"""Metrics: running means of training, and how good the net is on a test set."""

from dataclasses import dataclass

import torch
from torch import Tensor


class RunningMetrics:
    """Sums over the steps so far, kept on the device until their means are read.

    sums  (4), float64: of the losses, of the correct answers, of the steps and of the samples
    """

    def __init__(self, device):
        self.sums = torch.zeros(4, dtype=torch.float64, device=device)

    def add(self, loss: Tensor, num_correct: Tensor, samples: int, ok: Tensor | None = None):
        """One step's loss () and num_correct (), unless ok () is false."""
        one = torch.ones_like(self.sums[0])
        new = torch.stack([loss.double(), num_correct.double(), one, one * samples])
        self.sums += new if ok is None else torch.where(ok, new, 0.0)

    def steps(self) -> int:
        """The steps that counted. Waits for the device."""
        return int(self.sums[2])

    def samples(self) -> int:
        """Waits for the device."""
        return int(self.sums[3])

    def means(self, summed: bool) -> dict[str, float]:
        """Waits for the device. summed: is a step's loss the sum over its batch, not the mean?"""
        loss, correct, steps, samples = self.sums.tolist()
        samples, steps = samples or float("nan"), steps or float("nan")
        return {"loss": loss / (samples if summed else steps), "train_top1": correct / samples}

    def reset(self):
        self.sums.zero_()


def ranking(z: Tensor) -> Tensor:
    """Classes from best to worst, (N, K). Among equals the lower index comes first."""
    return z.sort(dim=1, descending=True, stable=True).indices


@dataclass
class Metrics:
    """A classifier's metrics on a test set. Accuracies lie between 0 and 1."""

    top1: float
    topk: float  # of 1 where k is the number of classes: then it says nothing, and no score has it
    k: int  # 5, or the number of classes where there are fewer
    per_class: list[float]
    confused: list[tuple[int, int, int]]  # true class, predicted class, count; most frequent first
    count: int

    def scores(self) -> dict[str, float]:
        """{"top1": …, "top5": …}, the second with more than five classes only."""
        return {"top1": self.top1} | ({"top5": self.topk} if len(self.per_class) > self.k else {})

    def score(self) -> float:
        """The one number to compare runs by; more is better."""
        return self.top1

    def chance(self) -> dict[str, float]:
        """The scores of random guesses."""
        return {name: k / len(self.per_class) for name, k in zip(self.scores(), (1, self.k))}

    def facts(self, classes) -> dict:
        """All metrics as JSON takes them, with the classes' names."""
        return self.scores() | {
            "chance": self.chance(),
            "count": self.count,
            "per_class": dict(zip(classes, self.per_class)),
            "confused": [[classes[a], classes[b], n] for a, b, n in self.confused],
        }

    def line(self) -> str:
        scores = "  ".join(f"{name.replace('top', 'top-')} {v:.1%}" for name, v in self.scores().items())
        chance = ", ".join(f"{v:.1%}" for v in self.chance().values())
        return f"{scores}  (chance {chance})  {self.count} test images"


@dataclass
class OutputMetrics:
    """How close a net's outputs are to given ones."""

    largest_error: float
    within: int  # samples with every output within 0.1
    count: int

    def scores(self) -> dict[str, float]:
        return {"largest_error": self.largest_error, "within": self.within}

    def score(self) -> float:
        return -self.largest_error

    def facts(self, classes=()) -> dict:
        return self.scores() | {"count": self.count}

    def line(self) -> str:
        return f"largest error {self.largest_error:.3f}  within 0.1: {self.within} of {self.count} samples"


def metrics(z: Tensor, target: Tensor) -> Metrics | OutputMetrics:
    """Of the outputs z (N, K), on any device, for classes (N) or outputs of the same shape."""
    return class_metrics(z, target) if target.dim() == 1 else output_metrics(z, target)


def class_metrics(z: Tensor, target: Tensor) -> Metrics:
    """Of logits z (N, K) for classes (N), int64."""
    count, classes = z.shape
    k = min(5, classes)
    ranked = ranking(z)
    hit = ranked[:, :k] == target[:, None]
    table = torch.bincount(target * classes + ranked[:, 0], minlength=classes**2).cpu()
    table = table.view(classes, classes)  # rows true, columns predicted
    per_class = (table.diag().double() / table.sum(1).clamp(min=1)).tolist()
    wrong = (table - torch.diag(table.diag())).flatten()
    order = wrong.sort(descending=True, stable=True).indices[:10].tolist()
    confused = [(i // classes, i % classes, int(wrong[i])) for i in order if wrong[i]]
    top1, topk = hit[:, 0].double().mean().item(), hit.any(1).double().mean().item()
    return Metrics(top1, topk, k, per_class, confused, count)


def output_metrics(z: Tensor, target: Tensor) -> OutputMetrics:
    """Of outputs z for given ones of the same shape (N, …)."""
    error = (z - target).abs().flatten(1).amax(1)
    return OutputMetrics(error.max().item(), int((error < 0.1).sum()), len(z))
