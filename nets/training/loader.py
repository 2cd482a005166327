"""Batches from a DataLoader of torch, in an order that depends only on the seed and the epoch."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from nets.common.errors import DataError, UsageError
from nets.data.decoder import WaitTimer
from nets.data.sampler import epoch_generator
from nets.data.selection import Selection
from nets.training.config import Config
from nets.training.evaluate import as_input
from nets.training.feed import Batch

PAIR = "a pair (x, y), a torch Dataset, a DataLoader, or the path of an image tree"


def as_tensor(value, where: str) -> Tensor:
    """UsageError if a value can't be a tensor."""
    try:
        return torch.as_tensor(value).detach()
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(f"{where} must be a tensor, not {type(value).__name__}") from None


def pair(source, name: str) -> tuple[Tensor, Tensor]:
    """(x, y) with as many samples: y (N), int64, are classes, y (N, …), floats, are outputs."""
    if not isinstance(source, (tuple, list)) or len(source) != 2:
        raise UsageError(f"{name}: expected {PAIR}, got {type(source).__name__}")
    x, y = (as_tensor(t, f"{name}: {part}") for part, t in zip("xy", source))
    if x.dim() == 0 or y.dim() == 0 or len(x) != len(y) or not len(x):
        counts = " and ".join("no" if t.dim() == 0 else str(len(t)) for t in (x, y))
        raise UsageError(f"{name}: x and y need the same number of samples, but have {counts}")
    if y.is_floating_point():
        if y.dim() == 1:
            raise UsageError(f"{name}: float outputs y are (N, outputs), not (N); use y[:, None]")
        return x, y
    if y.dim() != 1 or y.dtype == torch.bool:
        kind = f"{y.dtype} {tuple(y.shape)}".removeprefix("torch.")
        raise UsageError(f"{name}: y is classes (N) of whole numbers, or float outputs, not {kind}")
    return x, y.to(torch.int64)


class _OwnRandom:
    """Random numbers of torch for an epoch's loader, apart from those of the net's dropout.

    The loader, its sampler and, without workers, its transforms draw from torch's global generator. Within
    `with`, that has a state of its own, which begins with the epoch's seed.
    """

    def __init__(self, loader: DataLoader, seed: int, epoch: int):
        generator = epoch_generator(seed, epoch)
        self.state = generator.get_state()
        for part in (loader, getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)):
            own = getattr(part, "generator", None)
            if isinstance(own, torch.Generator):
                own.manual_seed(generator.initial_seed())
            set_epoch = getattr(part, "set_epoch", None)
            if set_epoch is not None:
                set_epoch(epoch)

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        outside = torch.get_rng_state()
        torch.set_rng_state(self.state)
        try:
            yield
        finally:
            self.state = torch.get_rng_state()
            torch.set_rng_state(outside)


def first_batch(loader: DataLoader, seed: int) -> Any:
    """The first batch of epoch 0."""
    with _OwnRandom(loader, seed, 0)():
        return next(iter(loader), None)


class LoaderFeed:
    """A Feed (see feed.py) of a DataLoader's batches, as they come, each a pair (x, y).

    Every epoch seeds torch's random numbers for the loader. A resumed epoch draws its earlier batches again
    and leaves them out, so it goes on exactly, unless a transform in this process draws from Python's or
    NumPy's generators: worker processes get theirs seeded by torch, this process doesn't.
    """

    fixed_shapes = False

    def __init__(self, loader: DataLoader, config: Config, first: int, device: torch.device):
        """first: the number of samples in the first batch."""
        try:
            self.length = len(loader)
        except TypeError:
            raise UsageError("train: the DataLoader has no length, so an epoch has no end") from None
        self.loader, self.config, self.device = loader, config, device
        self.dtype = getattr(torch, config.train.dtype)
        self.batch = getattr(loader, "batch_size", None) or first
        size = getattr(loader.dataset, "__len__", None)
        self.n = size() if size else self.length * self.batch
        self.selection = Selection(0, 0.0, 0, device)
        self.timer = WaitTimer(device)

    def steps(self, epoch: int) -> int:
        return self.length

    def indices(self, epoch: int, step: int) -> list[int]:
        """Unknown: a DataLoader doesn't say which samples are in a batch."""
        return []

    def waited(self, seconds: float) -> dict[str, float]:
        return {"wait": round(self.timer.seconds() / seconds, 4)}

    def __call__(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        random, batches, count = _OwnRandom(self.loader, self.config.seed, epoch), None, 0
        self.timer = WaitTimer(self.device)
        while True:
            with self.timer, random():
                if batches is None:
                    batches = iter(self.loader)
                batch = next(batches, None)
            if batch is None or count == self.length:
                break
            if count >= start:
                x, y = (t.to(self.device, non_blocking=True) for t in pair(batch, "train"))
                yield torch.arange(len(y), device=self.device), as_input(x, self.dtype), y
            count += 1
        if batch is not None or count != self.length:
            more = "more" if batch is not None else f"{count}"
            raise DataError(f"train: the DataLoader gave {more} batches, its length is {self.length}")
