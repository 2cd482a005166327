"""Evaluation: what does the net say of pictures that it has not seen?"""

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from nets.data.augment import normalize
from nets.data.datasets import Dataset
from nets.data.stream import ImageStream
from nets.data.tta import least_certain, predict_tta
from nets.distributed.shares import spread
from nets.distributed.world import World
from nets.layers.base import sum_dtype
from nets.training.config import Eval


def outputs(
    net,
    x: Tensor,
    data: Dataset,
    dtype: torch.dtype,
    channels_last: bool,
    bar: bool = False,
    asked: Eval = Eval(),
    between=lambda: None,
    world: World = World(),
) -> Tensor:
    """The net's output for x in evaluation mode, (N, outputs), at least float32; see nets/data/tta.py.

    bar: shown, if on a terminal. between: called before every batch; what it raises passes up.
    world: each process looks at its share of the pictures, and has all outputs.
    """
    before = net.training
    net.eval()

    most = 2**21 if x.device.type == "cpu" else 2**23  # numbers in a batch: 682 of CIFAR's pictures, or 2,730
    some = max(1, most // max(1, x[:1].numel()))

    def answers(samples, views: str) -> Tensor:
        parts = []
        for xs in tqdm(samples, "evaluate", disable=None if bar else True, leave=False):
            between()
            if x.dim() == 4:
                xs = normalize(xs, data.mean, data.std, dtype, channels_last)
                parts.append(predict_tta(net, xs, views, data.crop_size))
            else:
                z = net.forward(xs.to(dtype))[0]
                parts.append(z.to(sum_dtype(z)))
        return torch.cat(parts)

    try:
        first = "none" if asked.tta_fraction < 1 else asked.tta
        z = spread(lambda rows: answers(split(x, some, rows), first), len(x), world)
        if asked.tta != "none" and asked.tta_fraction < 1:
            again = least_certain(z, asked.tta_fraction)
            if len(again):
                more = lambda rows: answers(map(x.__getitem__, again[rows].split(some)), asked.tta)  # noqa: E731
                z[again] = spread(more, len(again), world)
    finally:
        net.train(before)
    return z


def split(x, some: int, rows: slice):
    """The rows of x, a tensor or a stream, some at a time."""
    if isinstance(x, ImageStream):
        return x.split(some, range(len(x))[rows])
    return x[rows].split(some)


def ranking(z: Tensor) -> Tensor:
    """Classes from best to worst, (N, K); of equals the lower index first."""
    return z.sort(dim=1, descending=True, stable=True).indices


@dataclass
class Report:
    """What a classifier got right on a test set. Shares are of 1."""

    top1: float
    topk: float
    k: int  # 5, or the number of classes where there are fewer
    per_class: list[float]
    confused: list[tuple[int, int, int]]  # true, guessed, how often; most often first
    count: int

    def scores(self) -> dict[str, float]:
        """{"top1": …, "top5": …}, the second under the name of its k."""
        return {"top1": self.top1, f"top{self.k}": self.topk}

    def score(self) -> float:
        """The one figure to compare runs by; more is better."""
        return self.top1

    def chance(self) -> dict[str, float]:
        """What guessing at random would score."""
        return {name: k / len(self.per_class) for name, k in zip(self.scores(), (1, self.k))}

    def facts(self, classes) -> dict:
        """All of it as JSON takes it, with the classes' names."""
        return self.scores() | {
            "chance": self.chance(),
            "count": self.count,
            "per_class": dict(zip(classes, self.per_class)),
            "confused": [[classes[a], classes[b], n] for a, b, n in self.confused],
        }

    def line(self) -> str:
        one, five = self.chance().values()
        return (
            f"top-1 {self.top1:.1%}  top-{self.k} {self.topk:.1%}"
            f"  (chance {one:.1%}, {five:.1%})  {self.count} test pictures"
        )


def report(z: Tensor, target: Tensor) -> Report:
    """z (N, K) on any device, target (N)."""
    count, classes = z.shape
    k = min(5, classes)
    ranked = ranking(z)
    hit = ranked[:, :k] == target[:, None]
    table = torch.bincount(target * classes + ranked[:, 0], minlength=classes**2).cpu()
    table = table.view(classes, classes)  # rows true, columns guessed
    per_class = (table.diag() / table.sum(1).clamp(min=1)).tolist()
    wrong = (table - torch.diag(table.diag())).flatten()
    order = wrong.sort(descending=True, stable=True).indices[:10].tolist()
    confused = [(i // classes, i % classes, int(wrong[i])) for i in order if wrong[i]]
    top1, topk = hit[:, 0].double().mean().item(), hit.any(1).double().mean().item()
    return Report(top1, topk, k, per_class, confused, count)


@dataclass
class ToyReport:
    """How near a net came to wanted outputs."""

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


def toy_report(z: Tensor, target: Tensor) -> ToyReport:
    error = (z - target).abs().amax(1)
    return ToyReport(error.max().item(), int((error < 0.1).sum()), len(z))
