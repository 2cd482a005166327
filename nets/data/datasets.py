"""Data sets: pictures as bytes on the device, all at once or, where they are too many, as a stream."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nets.common.errors import DataError, UsageError
from nets.data import cifar, folder, stream, tree


@dataclass
class Dataset:
    """Training and test samples.

    x        uint8 (N, H, W, C) for pictures, or stream.Pictures, which stays in its files;
             float32 (N, inputs) for the lecture's toy sets
    y        int64 (N), an index into `classes`; float32 (N, outputs) for toy sets
    mean     (C), of the training pictures on a scale of 0 to 1, and std likewise
    skipped  files that couldn't be read and are left out, with the reason
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: tuple[str, ...] = ()
    mean: Tensor | None = None
    std: Tensor | None = None
    side: int = 0  # of what the net sees, cut out of the picture; 0: all of it
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """What the net sees of one sample: (C, H, W) of images, else the sample's own."""
        if self.mean is None:
            return tuple(self.train_x.shape[1:])
        c, *sides = sample_shape(self.train_x)
        return (c, *([self.side] * 2 if self.side else sides))

    @property
    def outputs(self) -> int:
        return len(self.classes) or self.train_y.shape[1]

    def to(self, device) -> "Dataset":
        values = vars(self).items()
        moved = {k: v.to(device) if hasattr(v, "to") else v for k, v in values}
        return dataclasses.replace(self, **moved)


def sample_shape(x: Tensor) -> tuple[int, ...]:
    if x.dim() == 4:
        _, h, w, c = x.shape
        return c, h, w
    return tuple(x.shape[1:])


def _pictures(train_x, train_y, test_x, test_y, classes, some=None, skipped=None) -> Dataset:
    """With the channels' mean and deviation, of the parts in `some`, by default all pictures."""
    mean, std = _statistics([train_x] if some is None else some)
    skipped = {} if skipped is None else skipped  # a stream goes on filling its own
    return Dataset(train_x, train_y, test_x, test_y, tuple(classes), mean, std, skipped=skipped)


def _statistics(parts) -> tuple[Tensor, Tensor]:
    """The channels' mean and deviation, exact, from a count of every byte value."""
    counts = 0
    for x in parts:
        counts += torch.stack([torch.bincount(c.flatten(), minlength=256) for c in x.unbind(3)])
    values = torch.arange(256, dtype=torch.float64) / 255
    share = counts / counts.sum(1, keepdim=True, dtype=torch.float64)
    mean = (share * values).sum(1)
    variance = (share * (values - mean[:, None]) ** 2).sum(1)
    return mean.float(), variance.sqrt().clamp(min=1 / 255).float()


def digits(config, random_crop: float = 0.0) -> Dataset:
    """1,797 handwritten digits, 8 × 8, that scikit-learn brings along; 360 of them for the test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = np.round(x * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    parts = train_test_split(x, y, test_size=360, stratify=y, random_state=0)
    train_x, test_x, train_y, test_y = (torch.from_numpy(np.ascontiguousarray(p)) for p in parts)
    return _pictures(train_x, train_y.long(), test_x, test_y.long(), map(str, range(10)))


def identity(config, random_crop: float = 0.0) -> Dataset:
    """The lecture's demonstration: z = x for x in {0, 1}."""
    x = torch.tensor([[0.0], [1.0]])
    return Dataset(x, x, x, x)


def half_adder(config, random_crop: float = 0.0) -> Dataset:
    """Two bits in, their sum and carry out: each output needs both inputs, crossed over."""
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = torch.stack([(x[:, 0] != x[:, 1]).float(), x[:, 0] * x[:, 1]], 1)
    return Dataset(x, y, x, y)


def from_folder(config, random_crop: float = 0.0) -> Dataset:
    """A tree of pictures, a folder a class: in memory, or a stream where it is too large for that."""
    splits, classes = tree.scan(config.root)
    if config.num_classes and len(classes) != config.num_classes:
        raise DataError(
            f"{config.root}: has {len(classes)} classes, data.num_classes is {config.num_classes}"
        )
    if stream.wanted(splits, config, random_crop):
        train, test = stream.load(splits, config, random_crop)
        found = _pictures(train, train.y, test, test.y, classes, train.sample(), train.skipped)
    else:
        *parts, skipped = folder.load(config.root, splits, config.size, config.channels, config.on_error)
        found = _pictures(*parts, classes, skipped=skipped)
    if config.normalize == "mean":
        found.std = torch.full_like(found.std, 1 / 255)
    found.side = config.crop_size
    return found


def cifar10(config, random_crop: float = 0.0) -> Dataset:
    """50,000 + 10,000 small pictures in 10 classes (Krizhevsky 2009)."""
    return _cifar(config, random_crop, "CIFAR10", "cifar10")


def cifar100(config, random_crop: float = 0.0) -> Dataset:
    """As many pictures in 100 classes (Krizhevsky 2009)."""
    return _cifar(config, random_crop, "CIFAR100", "cifar100")


def _cifar(config, random_crop: float, cls: str, name: str) -> Dataset:
    """The official archive where root has it, else a folder-per-class tree, else a download."""
    import torchvision

    source = getattr(torchvision.datasets, cls)
    root = Path(config.root).expanduser()
    if not (root / source.base_folder).exists():
        for tree in (root, root / name):
            if (tree / "train").is_dir():
                return from_folder(dataclasses.replace(config, root=str(tree)), random_crop)
    *parts, classes = cifar.load(root, source)
    return _pictures(*parts, classes)


LOADERS = {f.__name__: f for f in (digits, cifar10, cifar100, identity, half_adder)}
LOADERS["folder"] = from_folder
# one sample's shape and the number of outputs, where they are known before the data is read
SHAPES = {
    "digits": ((1, 8, 8), 10),
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
    "identity": ((1,), 1),
    "half_adder": ((2,), 2),
}


def load(config, augment=None) -> Dataset:
    """The data set that a config's [data] names, on the CPU.

    augment: the config's [augment]; a tree with random_resized_crop is streamed.
    """
    random_crop = augment.random_resized_crop if augment else 0.0
    if random_crop and not config.size:
        raise UsageError("augment.random_resized_crop: needs data.size, the side that crops are scaled to")
    found = LOADERS[config.source](config, random_crop)
    if random_crop and not isinstance(found.train_x, stream.Pictures):
        raise UsageError(f"augment.random_resized_crop: {config.source} is not read from a tree of pictures")
    return found


def shapes(config) -> tuple[tuple[int, ...], int]:
    """One sample's shape and the number of outputs; only a folder has to be read for it."""
    if config.source in SHAPES:
        return SHAPES[config.source]
    side = config.crop_size or config.size
    if config.source == "folder" and config.num_classes and side:
        return (config.channels, side, side), config.num_classes
    data = load(config)
    return data.shape, data.outputs
