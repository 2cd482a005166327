"""A tree of pictures that doesn't fit in memory: worker processes decode it while the net trains.

Which pictures a batch holds, and how each is cut out, is a function of the seed, the epoch and
the picture's number alone: any number of workers gives the same batches, and an epoch can be
entered at any of them. Without random_resized they are also those of the tree held in memory.
"""

import math
import os
import signal
import sys
import time
import warnings

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from nets.common.errors import DataError
from nets.data.batches import Plan, take
from nets.data.folder import first, same_size
from nets.data.pictures import decode
from nets.data.tree import Files

warnings.filterwarnings("ignore", "This DataLoader will create")  # as many as the config asks for
SAMPLE = 2000  # pictures whose mean and deviation stand for all


def wanted(splits: dict[str, Files], config, random_crop: float = 0.0) -> bool:
    """Is the tree, decoded, more than config.memory_limit_mb, or are crops cut from whole pictures?"""
    if random_crop:
        return True
    each = _shape(splits["train"], config)
    return sum(map(len, splits.values())) * math.prod(each) > config.memory_limit_mb * 1e6


def _shape(files: Files, config) -> tuple[int, int, int]:
    if config.size:
        return config.size, config.size, config.channels
    return first(files, 0, config.channels, config.on_error == "skip").shape


def load(splits: dict[str, Files], config, random_crop: float = 0.0) -> tuple["Pictures", "Pictures"]:
    """The training and test pictures. What can't be read in the test split is found here."""
    shape, skipped = _shape(splits["train"], config), {}
    train, test = (
        Pictures(files, shape, config, skipped, random_crop=random_crop) for files in splits.values()
    )
    if config.on_error == "skip":
        bad = [row for batch in test.split(test.some(), raw=True) for row in batch[1]]
        test = Pictures(test.files.without(bad), shape, config, skipped)
    return train, test


def waited(x, seconds: float) -> dict[str, float]:
    """{"wait": share of an epoch's seconds so far in which the step stood still for a stream's pictures}."""
    return {"wait": round(x.wait.seconds() / seconds, 4)} if isinstance(x, Pictures) else {}


def note(skipped: dict[str, str]):
    """Say on stderr what was left out, if anything was."""
    if skipped:
        names = ", ".join([*skipped][:5] + ["…"] * (len(skipped) > 5))
        tqdm.write(f"note: {len(skipped)} pictures can't be read and are left out: {names}", sys.stderr)


class Pictures:
    """A split that stays in its files and stands where a Dataset has a tensor.

    It has a uint8 (N, H, W, C) tensor's shape, dim(), numel(), len(), to() and split(), and
    x[rows] decodes a few, each scaled and cut as for a test; `batches` decodes an epoch.
    skipped: {path: why} of files that couldn't be read, more as they are met.
    """

    def __init__(
        self, files: Files, shape, config, skipped: dict[str, str], device="cpu", random_crop: float = 0.0
    ):
        self.files, self.config, self.skipped, self.random_crop = files, config, skipped, random_crop
        self.shape = torch.Size((len(files), *shape))
        self.y = torch.from_numpy(files.y)
        self.device = torch.device(device)
        self.decoder = Decoder(files, tuple(shape), config, random_crop)
        self.wait = Wait(self.device)
        self.jobs: list = []  # the loader's, of this epoch
        self.loader = None

    def __len__(self):
        return len(self.files)

    def dim(self) -> int:
        return 4

    def numel(self) -> int:
        return self.shape.numel()

    def to(self, device) -> "Pictures":
        return Pictures(self.files, self.shape[1:], self.config, self.skipped, device, self.random_crop)

    def __getitem__(self, rows) -> Tensor:
        rows = np.arange(len(self))[rows]
        return self._received(self.decoder[None, rows])

    def some(self) -> int:
        """Pictures in a batch of a few MB."""
        return max(1, 2**22 // math.prod(self.shape[1:]))

    def split(self, some: int, raw: bool = False, rows=None):
        """The pictures in order, some at a time: an iterable with a length."""
        rows = np.arange(len(self)) if rows is None else rows
        jobs = [(None, rows[i : i + some]) for i in range(0, len(rows), some)]
        return _Pass(self._loader(jobs, keep=False), self._checked if raw else self._received)

    def sample(self):
        """Every so manyth picture, in batches."""
        rows = np.arange(0, len(self), max(1, len(self) // SAMPLE))
        return self.split(self.some(), rows=rows)

    def batches(self, plan: Plan, batch: int, seed: int, epoch: int, start: int = 0, side: int = 0):
        """Yield an epoch's whole batches from number `start` on: uint8 (batch, H, W, C).

        On the device, flipped and shifted as planned; draws for crops come from seed and epoch.
        `self.wait` adds up how long the step has waited for them.
        """
        order = plan.order.cpu().numpy()
        draw = (seed, epoch) if self.random_crop else None
        ends = range((start + 1) * batch, len(order) + 1, batch)
        self.jobs[:] = [(draw, order[end - batch : end]) for end in ends]
        self.loader = self.loader or self._loader(self.jobs, keep=True)
        self.wait = Wait(self.device)
        here = torch.arange(batch, device=self.device)
        with self.wait:
            decoded = iter(self.loader)  # in the first epoch, starts the workers
        for end in ends:
            with self.wait:
                x = next(decoded)
            part = plan.rows(end - batch, end)
            yield take(self._received(x), Plan(here, part.shift, part.flip), side)

    def _loader(self, jobs, keep: bool) -> DataLoader:
        count = min(workers(self.config), len(jobs)) if not keep else workers(self.config)
        return DataLoader(
            self.decoder,
            batch_size=None,  # a job is a batch
            sampler=jobs,
            num_workers=count,
            persistent_workers=keep and count > 0,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_quiet,
            generator=torch.Generator(),  # not the global one: dropout draws from that
        )

    def _checked(self, item):
        """A decoder's item, its problems raised or noted."""
        x, bad, fatal = item
        if fatal:
            raise DataError(fatal)
        self.skipped |= {self.files[row]: why for row, why in bad.items()}
        return item

    def _received(self, item) -> Tensor:
        return self._checked(item)[0].to(self.device, non_blocking=True)


def _quiet(_):
    """In a worker: an interrupt is for the main process, which ends its workers, and does the talking."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the run's own handler, which would only take note
    sys.excepthook = lambda *_: None  # a pipe whose other end is gone


class _Pass:
    """The loader's items, each made into what is wanted of it."""

    def __init__(self, loader: DataLoader, received):
        self.loader, self.received = loader, received

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        return map(self.received, self.loader)


class Decoder(torch.utils.data.Dataset):
    """What a worker does: decoder[draw, rows] is (uint8 (B, H, W, C), {row: why}, fatal or "").

    draw: (seed, epoch) for random crops, None for the middle. A picture that can't be read ends
    it all, or with on_error = "skip" gives way to the next of its class, so that the label holds.
    """

    def __init__(self, files: Files, shape: tuple[int, int, int], config, random_crop: float = 0.0):
        self.files, self.shape, self.config, self.random_crop = files, shape, config, random_crop
        self.classes = np.searchsorted(files.y, np.arange(files.y[-1] + 2))  # where each begins

    def __getitem__(self, job):
        draw, rows = job
        out, bad = np.empty((len(rows), *self.shape), np.uint8), {}
        try:
            for k, row in enumerate(rows):
                out[k] = self._one(int(row), draw, bad)
        except DataError as e:  # told as text: the loader would wrap it in a traceback
            return torch.empty(0), bad, str(e)
        return torch.from_numpy(out), bad, ""

    def _one(self, row: int, draw, bad: dict[int, str]) -> np.ndarray:
        crop = None
        if draw is not None:
            rng = np.random.default_rng((*draw, row))
            crop = lambda width, height: box(width, height, self.random_crop, rng)  # noqa: E731
        label = self.files.y[row]
        begin, end = self.classes[label], self.classes[label + 1]
        for i in range(end - begin):
            j = begin + (row - begin + i) % (end - begin)
            try:
                pixels = decode(self.files[j], self.config.channels, self.config.size or None, crop)
            except DataError as e:
                if self.config.on_error == "stop":
                    raise
                bad[int(j)] = str(e)
                continue
            same_size(self.files[j], pixels, self.shape)
            return pixels
        raise DataError(f"{bad[row]}; nor can any other of its class")


def box(width: int, height: int, least: float, rng) -> tuple[int, int, int, int]:
    """A random part of a picture: (left, top, right, bottom).

    Its area is uniform between `least` and all of the picture's, its sides' ratio log-uniform
    between 3:4 and 4:3; after ten that don't fit in, the middle. Source: Szegedy et al. 2014,
    "Going deeper with convolutions", as torchvision's RandomResizedCrop reads it.
    """
    for _ in range(10):
        area = width * height * rng.uniform(least, 1)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    w, h = max(1, min(width, height * 4 // 3)), max(1, min(height, width * 4 // 3))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def workers(config) -> int:
    """How many processes decode: data.num_workers, or by default all cores of this process but one."""
    if config.num_workers >= 0:
        return config.num_workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) - 1))


class Wait:
    """Adds up the time that a device's work stands still around a `with`, which waits on the host.

    On CUDA the host runs ahead of the device, so that it may wait while the device is still at
    work: there the device's own clock is read, from the last kernel before to the first after.
    """

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"
        self.times: list = []

    def _now(self):
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def __enter__(self):
        self.begin = self._now()

    def __exit__(self, *_):
        self.times.append((self.begin, self._now()))

    def seconds(self) -> float:
        """On CUDA: waits for the device."""
        if self.cuda:
            torch.cuda.synchronize()
            return sum(a.elapsed_time(b) for a, b in self.times) / 1000
        return sum(b - a for a, b in self.times)
