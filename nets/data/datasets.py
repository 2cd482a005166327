"""Data sets: images as bytes, all in memory or, where a tree is too large for that, as a stream."""

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from nets.common.errors import DataError, printable
from nets.data import cifar, folder, stream, tree, validation
from nets.data.stream import ImageStream


@dataclass
class Dataset:
    """Training and test samples.

    train_x, test_x  uint8 (N, H, W, C) for images, or an ImageStream; else (N, …), as the net takes it.
                     test_x is None without a test set
    train_y, test_y  int64 (N), indices into `classes`; float32 (N, K) for outputs
    classes          the class names; empty for outputs
    mean, std        float32 (C), of the training images' channels, on a scale of 0 to 1; None without images
    crop_size        the side of the net's input, a crop of the image; 0 if it is the whole image
    val_x, val_y     of the validation split, if there is one: see nets/data/validation.py
    skipped          {path: reason} of unreadable files that are not used
    left_out         what else of an image tree is not read: {reason: {"count": …, "first": [paths]}}
    """

    train_x: Tensor | ImageStream
    train_y: Tensor
    test_x: Tensor | ImageStream | None
    test_y: Tensor | None
    classes: tuple[str, ...] = ()
    mean: Tensor | None = None
    std: Tensor | None = None
    crop_size: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, dict] = field(default_factory=dict)
    val_x: Tensor | ImageStream | None = None
    val_y: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The net's input for one sample: (C, H, W) for images, else the sample's own shape."""
        if self.mean is None:
            return tuple(self.train_x.shape[1:])
        _, h, w, c = self.train_x.shape
        return (c, self.crop_size, self.crop_size) if self.crop_size else (c, h, w)

    @property
    def num_outputs(self) -> int:
        """The number of classes, or the K of outputs."""
        return len(self.classes) or self.train_y.shape[1]

    def to(self, device) -> "Dataset":
        """The same data set with its tensors on `device`."""
        fields = vars(self).items()
        return dataclasses.replace(self, **{k: v.to(device) if hasattr(v, "to") else v for k, v in fields})


def image_dataset(train_x, train_y, test_x, test_y, classes, skipped=None) -> Dataset:
    """With the mean and std of train_x."""
    mean, std = channel_statistics(train_x)
    skipped = {} if skipped is None else skipped  # a stream adds to this very dict later
    return Dataset(train_x, train_y, test_x, test_y, tuple(classes), mean, std, skipped=skipped)


def channel_statistics(images: Tensor | ImageStream) -> tuple[Tensor, Tensor]:
    """The channels' mean and standard deviation (C), exact: from the counts of all byte values.

    For a stream, they are those of a sample of its images.
    """
    batches: Iterable[Tensor] = images.sample() if isinstance(images, ImageStream) else [images]
    counts = torch.zeros((), dtype=torch.int64)
    for x in batches:
        counts = counts + torch.stack([torch.bincount(c.flatten(), minlength=256) for c in x.unbind(3)])
    values = torch.arange(256, dtype=torch.float64) / 255
    share = counts / counts.sum(1, keepdim=True, dtype=torch.float64)
    mean = (share * values).sum(1)
    variance = (share * (values - mean[:, None]) ** 2).sum(1)
    return mean.float(), variance.sqrt().clamp(min=1 / 255).float()


def hold_out(data: Dataset, share: float, keep_std: bool = False) -> Dataset:
    """The data set, on the CPU, with `share` of its training samples as val_x and val_y.

    The channels' mean and std are those of the samples that stay. keep_std: the std isn't the samples'.
    """
    if not share:
        return data
    train, val = validation.split(data.train_y, share)
    if not len(val):
        raise DataError(f"data.validation: {share:g} of the training samples of any class is less than one")
    x, y = data.train_x, data.train_y
    if isinstance(x, ImageStream):
        kept, held = x.select(train), x.select(val).readable()
        data = dataclasses.replace(data, train_x=kept, train_y=kept.y, val_x=held, val_y=held.y)
    else:
        data = dataclasses.replace(data, train_x=x[train], train_y=y[train], val_x=x[val], val_y=y[val])
    if data.mean is not None:
        mean, std = channel_statistics(data.train_x)
        data = dataclasses.replace(data, mean=mean, std=data.std if keep_std else std)
    return data


def digits(config, random_crop: float = 0.0) -> Dataset:
    """1,797 handwritten digits of 8 × 8, part of scikit-learn; 360 of them are the test set."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    images = np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    parts = train_test_split(images, labels, test_size=360, stratify=labels, random_state=0)
    train_x, test_x, train_y, test_y = (torch.from_numpy(np.ascontiguousarray(p)) for p in parts)
    return image_dataset(train_x, train_y.long(), test_x, test_y.long(), map(str, range(10)))


def identity(config, random_crop: float = 0.0) -> Dataset:
    """The lecture's demonstration: z = x for x in {0, 1}."""
    x = torch.tensor([[0.0], [1.0]])
    return Dataset(x, x, x, x)


def half_adder(config, random_crop: float = 0.0) -> Dataset:
    """Two bits in, their sum and carry out: each output needs both inputs."""
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = torch.stack([(x[:, 0] != x[:, 1]).float(), x[:, 0] * x[:, 1]], 1)
    return Dataset(x, y, x, y)


def from_folder(config, random_crop: float = 0.0) -> Dataset:
    """An image tree, one folder per class; streamed if it exceeds config.memory_limit_mb."""
    splits, classes, left_out = tree.scan(config.root)
    if config.num_classes and len(classes) != config.num_classes:
        raise DataError(
            f"{config.root}: has {len(classes)} classes, data.num_classes is {config.num_classes}"
        )
    if stream.should_stream(splits, config, random_crop):
        train, test = stream.load(splits, config, random_crop)
        data = image_dataset(train, train.y, test, test.y, classes, train.skipped)
    else:
        train_x, train_y, test_x, test_y, skipped = folder.load(splits, config)
        data = image_dataset(train_x, train_y, test_x, test_y, classes, skipped=skipped)
    if config.normalize == "mean" and data.std is not None:
        data.std = torch.full_like(data.std, 1 / 255)  # inputs keep the scale of bytes
    data.crop_size, data.left_out = config.crop_size, left_out.facts()
    if data.left_out and int(os.environ.get("RANK", 0)) == 0:
        tqdm.write(f"note: {printable(config.root)}: not read: {left_out.line()}", sys.stderr)
    return data


def cifar10(config, random_crop: float = 0.0) -> Dataset:
    """50,000 + 10,000 images of 32 × 32 in 10 classes. Source: Krizhevsky 2009."""
    return _cifar(config, random_crop, "cifar10")


def cifar100(config, random_crop: float = 0.0) -> Dataset:
    """50,000 + 10,000 images of 32 × 32 in 100 classes. Source: Krizhevsky 2009."""
    return _cifar(config, random_crop, "cifar100")


def _cifar(config, random_crop: float, name: str) -> Dataset:
    """The published archive if root has it, else an image tree in root or root/name, else a download."""
    archive = cifar.ARCHIVES[name]
    root = Path(config.root)
    if not (root / archive.folder).exists():
        for path in (root, root / name):
            if (path / "train").is_dir():
                return from_folder(dataclasses.replace(config, root=str(path)), random_crop)
    return image_dataset(*cifar.load(root, archive))


# data.source → its loader, a function of the config's [data] and augment.random_resized_crop
LOADERS: dict[str, Callable[..., Dataset]] = {
    "digits": digits,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "identity": identity,
    "half_adder": half_adder,
    "folder": from_folder,
}
# data.source → the shape of one sample and the number of outputs, where the data need not be read for it
SHAPES = {
    "digits": ((1, 8, 8), 10),
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
    "identity": ((1,), 1),
    "half_adder": ((2,), 2),
}


def load(config, augment=None) -> Dataset:
    """The data set that config.source names, on the CPU, with config.validation of its samples held out.

    config, augment: the config's [data] and [augment] tables. With augment.random_resized_crop the
    image tree is streamed. DataError if the data are missing or damaged.
    """
    random_crop = augment.random_resized_crop if augment else 0.0
    config = dataclasses.replace(config, root=os.path.expanduser(config.root))
    data = LOADERS[config.source](config, random_crop)
    return hold_out(data, config.validation, keep_std=config.normalize == "mean")


def shapes(config) -> tuple[tuple[int, ...], int]:
    """(shape of one sample, number of outputs). Reads the data only for a folder without its sizes set."""
    if config.source in SHAPES:
        return SHAPES[config.source]
    size = config.crop_size or config.size
    if config.source == "folder" and config.num_classes and size:
        return (config.channels, size, size), config.num_classes
    data = load(config)
    return data.shape, data.num_outputs
