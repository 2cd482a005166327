"""An image tree that does not fit in memory: worker processes decode it while the net trains.

The images of a batch and their crops depend on the seed, the epoch and the image's index alone.
So any number of workers gives the same batches, and a resumed run can start at any batch of an
epoch. Without random_resized_crop, the batches are those of the tree held in memory.
"""

import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from nets.common.errors import DataError, printable
from nets.data.augment import crop_and_flip
from nets.data.decoder import Decoded, Decoder, Job, WaitTimer, init_worker, num_workers
from nets.data.images import first_readable
from nets.data.sampler import EpochPlan
from nets.data.tree import FileList

warnings.filterwarnings("ignore", "This DataLoader will create")  # the config sets the number of workers
STATISTICS_IMAGES = 2000  # about how many images give the mean and the standard deviation


def should_stream(splits: dict[str, FileList], config, random_crop: float = 0.0) -> bool:
    """Whether the decoded tree exceeds config.memory_limit_mb, or random crops need the original files."""
    if random_crop:
        return True
    image_bytes = math.prod(_image_shape(splits["train"], config))
    return sum(map(len, splits.values())) * image_bytes > config.memory_limit_mb * 1e6


def _image_shape(files: FileList, config) -> tuple[int, int, int]:
    """(H, W, C) of every decoded image."""
    if config.size:
        return config.size, config.size, config.channels
    h, w, c = first_readable(files, config).shape
    return h, w, c


def load(
    splits: dict[str, FileList], config, random_crop: float = 0.0
) -> tuple["ImageStream", "ImageStream"]:
    """The training and test images. With on_error = "skip", the test split leaves unreadable files out."""
    shape, skipped = _image_shape(splits["train"], config), {}
    train, test = (
        ImageStream(files, shape, config, skipped, random_crop=random_crop) for files in splits.values()
    )
    return train, test.readable()


def wait_share(x, seconds: float) -> dict[str, float]:
    """{"wait": the share of an epoch's `seconds` so far spent waiting for images}; {} if x is no stream."""
    return {"wait": round(x.wait_timer.seconds() / seconds, 4)} if isinstance(x, ImageStream) else {}


def report_skipped(skipped: dict[str, str]):
    """Name skipped files on stderr, if there are any."""
    if skipped:
        names = ", ".join([*map(printable, [*skipped][:5])] + ["…"] * (len(skipped) > 5))
        tqdm.write(f"note: {len(skipped)} images can't be read and are skipped: {names}", sys.stderr)


class ImageStream:
    """The images of a split, decoded from their files on demand. Replaces the tensor x of a Dataset.

    It has the shape, dim(), numel(), len(), to() and split() of a uint8 (N, H, W, C) tensor.
    x[indices] decodes some images as for a test, without augmentation; `batches` decodes an epoch.

    y           int64 (N), the labels, on the CPU
    skipped     {path: reason} of unreadable files, added to whenever one is met
    wait_timer  the time that the current epoch's steps waited for images
    """

    def __init__(
        self,
        files: FileList,
        shape: Sequence[int],
        config,
        skipped: dict[str, str],
        device: torch.device | str = "cpu",
        random_crop: float = 0.0,
    ):
        """shape: (H, W, C) of every image. random_crop: the smallest area of a random crop; 0 for none."""
        self.files, self.config, self.skipped, self.random_crop = files, config, skipped, random_crop
        h, w, c = shape
        self.shape = torch.Size((len(files), h, w, c))
        self.y = torch.from_numpy(files.y)
        self.device = torch.device(device)
        self.decoder = Decoder(files, (h, w, c), config, random_crop)
        self.wait_timer = WaitTimer(self.device)
        self.jobs: list[Job] = []  # of the current epoch; the persistent loader reads this list
        self.loader: DataLoader | None = None

    def __len__(self) -> int:
        return len(self.files)

    def dim(self) -> int:
        return 4

    def numel(self) -> int:
        return self.shape.numel()

    def to(self, device) -> "ImageStream":
        return ImageStream(self.files, self.shape[1:], self.config, self.skipped, device, self.random_crop)

    def select(self, indices: Tensor) -> "ImageStream":
        """The stream of some of the images, in their order here."""
        others = np.setdiff1d(np.arange(len(self)), indices.numpy())
        files = self.files.without(others)
        return ImageStream(files, self.shape[1:], self.config, self.skipped, self.device, self.random_crop)

    def readable(self) -> "ImageStream":
        """Without the files that can't be read, if they are skipped: all are decoded once to find them."""
        if self.config.on_error != "skip":
            return self
        unreadable = {index for _, bad, _ in self.decode_all() for index in bad}
        return self.select(torch.tensor([i for i in range(len(self)) if i not in unreadable]))

    def __getitem__(self, indices) -> Tensor:
        return self._to_device(self.decoder[None, np.arange(len(self))[indices]])

    def chunk_size(self) -> int:
        """How many images make a few MB."""
        return max(1, 2**22 // math.prod(self.shape[1:]))

    def split(self, size: int, indices: Sequence[int] | np.ndarray | None = None) -> "_Mapped":
        """Batches of `size` images in order: an iterable with a length. indices: of some images only."""
        return _Mapped(self._ordered_loader(size, indices), self._to_device)

    def decode_all(self) -> "_Mapped":
        """All images in order, as the decoder gives them: (images, {index: reason}, error)."""
        return _Mapped(self._ordered_loader(self.chunk_size()), self._checked)

    def sample(self) -> "_Mapped":
        """Every k-th image, about STATISTICS_IMAGES in all, in batches."""
        k = max(1, len(self) // STATISTICS_IMAGES)
        return self.split(self.chunk_size(), np.arange(0, len(self), k))

    def batches(
        self, plan: EpochPlan, batch_size: int, seed: int, epoch: int, start: int = 0, crop_size: int = 0
    ) -> Iterator[Tensor]:
        """Yield an epoch's whole batches from number `start` on: uint8 (batch_size, H, W, C), on the device.

        They are cropped and flipped by the plan. seed and epoch determine random resized crops.
        crop_size: see `crop_and_flip`. Restarts `wait_timer`.
        """
        order = plan.order.cpu().numpy()
        draw = (seed, epoch) if self.random_crop else None
        ends = range((start + 1) * batch_size, len(order) + 1, batch_size)
        self.jobs[:] = [(draw, order[end - batch_size : end]) for end in ends]
        self.loader = self.loader or self._loader(self.jobs, persistent=True)
        self.wait_timer = WaitTimer(self.device)
        positions = torch.arange(batch_size, device=self.device)
        with self.wait_timer:
            decoded = iter(self.loader)  # in the first epoch, this starts the workers
        for end in ends:
            with self.wait_timer:
                item = next(decoded)
            part = plan.batch(end - batch_size, end)
            yield crop_and_flip(self._to_device(item), EpochPlan(positions, part.shift, part.flip), crop_size)

    def close(self):
        """End the worker processes of the epochs. The next epoch starts new ones."""
        iterator = self.loader._iterator if self.loader else None
        end = getattr(iterator, "_shutdown_workers", None)  # the iterator's __del__ calls it, but late
        if end is not None:
            end()
        self.loader = None

    def _ordered_loader(self, size: int, indices=None) -> DataLoader:
        indices = np.arange(len(self)) if indices is None else np.asarray(indices)
        jobs: list[Job] = [(None, indices[i : i + size]) for i in range(0, len(indices), size)]
        return self._loader(jobs, persistent=False)

    def _loader(self, jobs: list[Job], persistent: bool) -> DataLoader:
        count = num_workers(self.config) if persistent else min(num_workers(self.config), len(jobs))
        sampler: Any = jobs  # a job is a batch, where DataLoader expects the index of a sample
        return DataLoader(
            self.decoder,
            batch_size=None,
            sampler=sampler,
            num_workers=count,
            persistent_workers=persistent and count > 0,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=init_worker,
            generator=torch.Generator(),  # the global one is dropout's: a draw here would change its masks
        )

    def _checked(self, item: Decoded) -> Decoded:
        """The decoder's item; its error raised, its unreadable files added to `skipped`."""
        _, unreadable, error = item
        if error:
            raise DataError(error)
        self.skipped |= {self.files[index]: reason for index, reason in unreadable.items()}
        return item

    def _to_device(self, item: Decoded) -> Tensor:
        return self._checked(item)[0].to(self.device, non_blocking=True)


class _Mapped:
    """A sized iterable: f of every item."""

    def __init__(self, items: DataLoader, f: Callable[[Decoded], Any]):
        self.items, self.f = items, f

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator:
        return map(self.f, self.items)
