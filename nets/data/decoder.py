"""The worker processes of a stream: what they do, how many there are, and the time spent waiting for them."""

import os
import signal
import sys
import time

import numpy as np
import torch

from nets.common.errors import DataError
from nets.data.augment import random_resized_crop_box
from nets.data.images import check_same_size, decode_for
from nets.data.tree import FileList

Draw = tuple[int, int] | None  # (seed, epoch) of random crops; None for the center
Job = tuple[Draw, np.ndarray]  # a batch: the indices (B) of its files
Decoded = tuple[torch.Tensor, dict[int, str], str]


class Decoder(torch.utils.data.Dataset):
    """Decodes a batch of image files: decoder[draw, indices] → (images, unreadable, error).

    images      uint8 (B, H, W, C); empty where there is an error
    unreadable  {index: reason} of files that were replaced
    error       the message of a DataError that ends the run, or ""

    With on_error = "skip", the next readable file of the same class replaces an unreadable one, so
    the label still holds. With "stop", an unreadable file is an error.
    """

    def __init__(self, files: FileList, shape: tuple[int, int, int], config, random_crop: float = 0.0):
        """shape: (H, W, C) of every image. random_crop: the smallest area of a random crop; 0 for none."""
        self.files, self.shape, self.config, self.random_crop = files, shape, config, random_crop
        self.class_begins = np.searchsorted(files.y, np.arange(files.y[-1] + 2))

    def __getitem__(self, job: Job) -> Decoded:
        draw, indices = job
        images, unreadable = np.empty((len(indices), *self.shape), np.uint8), {}
        try:
            for k, index in enumerate(indices):
                images[k] = self._decode(int(index), draw, unreadable)
        except DataError as e:  # as text: the DataLoader would wrap it in a traceback
            return torch.empty(0), unreadable, str(e)
        return torch.from_numpy(images), unreadable, ""

    def _decode(self, index: int, draw: Draw, unreadable: dict[int, str]) -> np.ndarray:
        crop = None
        if draw is not None:
            rng = np.random.default_rng((*draw, index))
            crop = lambda width, height: random_resized_crop_box(width, height, self.random_crop, rng)  # noqa: E731
        label = self.files.y[index]
        begin, end = self.class_begins[label], self.class_begins[label + 1]
        for i in range(end - begin):
            j = int(begin + (index - begin + i) % (end - begin))
            try:
                pixels = decode_for(self.config, self.files[j], crop)
            except DataError as e:
                if self.config.on_error == "stop":
                    raise
                unreadable[j] = str(e)
                continue
            check_same_size(self.files[j], pixels, self.shape)
            return pixels
        raise DataError(f"{unreadable[index]}; no other file of its class can be read")


def num_workers(config) -> int:
    """How many processes decode: data.num_workers; if negative, the CPU cores of this process less one."""
    if config.num_workers >= 0:
        return config.num_workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) - 1))


def init_worker(_):
    """Set a worker's signal handlers: the main process alone handles interrupts, and ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the run's handler, if inherited, would not end it
    sys.excepthook = lambda *_: None  # a broken pipe after the main process has ended


class WaitTimer:
    """Adds up the time that the device is idle during `with timer:`, while the host waits for images.

    On CUDA the host runs ahead of the device, so it may wait while the device still computes.
    There, events on the device measure the time from the last kernel before to the first one after.
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
        """The sum so far. On CUDA this synchronizes with the device."""
        if self.cuda:
            torch.cuda.synchronize()
            return sum(a.elapsed_time(b) for a, b in self.times) / 1000
        return sum(b - a for a, b in self.times)
