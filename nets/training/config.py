"""Configs: a TOML file as frozen dataclasses. Errors name the key, the reason and the nearest known name."""

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nets.common.errors import UsageError, nearest
from nets.common.files import expanded
from nets.common.ranges import check_range, shown
from nets.data.tta import TTA_NAMES
from nets.kernels import BACKENDS
from nets.losses import REDUCTIONS, SMOOTHING
from nets.optim.param_groups import RANGES, check_groups, check_nesterov
from nets.optim.schedules import SCHEDULES
from nets.training import validate
from nets.training.renamed import check_renamed
from nets.training.toml import check_plain, key_text, read, set_value
from nets.training.toml import dumps as dumps
from nets.training.toml import toml as toml

FROM_FOLDERS = ("cifar10", "cifar100", "folder")  # sources that are read from data.root
SOURCES = ("digits", "cifar10", "cifar100", "folder", "identity", "half_adder")


def key(default, *, least=None, most=None, over=None, among=None):
    """A field and its values: least <= value <= most, value > over, one of `among`."""
    return field(default=default, metadata={"least": least, "most": most, "over": over, "among": among})


@dataclass(frozen=True)
class Data:
    """The data set, and how its images are read."""

    source: str = key("digits", among=SOURCES)  # the data set
    root: str = "data"  # folder that holds (or gets) the data set; --data-root overrides
    size: int = key(0, least=0, most=4096)  # folder: rows and columns to resize to, 0 for no resize
    channels: int = key(3, among=(1, 3))  # folder: color or gray
    crop_size: int = key(
        0, least=0, most=4096
    )  # folder: side of the net's input, a crop of data.size; 0: all
    normalize: str = key(
        "mean_std", among=("mean_std", "mean")
    )  # folder: subtract the mean, divide by the std
    num_classes: int = key(0, least=0)  # folder: how many there must be, 0 for any number
    memory_limit_mb: int = key(4000, least=0)  # MB of images held in memory; a larger tree is streamed
    num_workers: int = key(-1, least=-1, most=1024)  # processes that decode a stream; -1: all cores but one
    on_error: str = key("stop", among=("stop", "skip"))  # at an image that can't be read
    max_megapixels: float = key(100.0, over=0, most=10**5)  # in an image file; a larger one can't be read
    validation: float = key(
        0.0, least=0, most=0.9
    )  # share of the training samples that selects the best checkpoint; 0: none


@dataclass(frozen=True)
class Augment:
    """Data augmentation of training images."""

    crop_padding: int = key(0, least=0)  # largest random shift in pixels, edges reflected
    random_resized_crop: float = key(
        0.0, least=0, most=1
    )  # folder: smallest area of a random crop, 0 for none
    flip: str = key("none", among=("none", "random", "alternating"))  # left to right
    color_jitter: float = key(0.0, least=0)  # along the principal axes of the colors, in standard deviations
    cutout: int = key(0, least=0, most=4096)  # side of a random square that is set to the mean, 0 for none


@dataclass(frozen=True)
class NetConfig:
    """The layers, in order: names, or tables with `type` (or "module:Class") and the layer's options.

    By default they run by their own formulas: a config's bits depend on other kernels only if it names them.
    The default of `fit`, which has no file that could name them, is "native".
    """

    layers: tuple = ()  # such as ["Flatten", { type = "Linear", out_features = 10 }]
    backend: str = key("reference", among=BACKENDS)  # which kernels the layers run on
    recompute: bool = False  # backward computes activations again instead of keeping them


@dataclass(frozen=True)
class Train:
    """How the net is trained."""

    epochs: int = key(10, least=1, most=10**6)  # passes over the training set
    batch_size: int = key(128, least=1)  # of all processes together
    progressive_sizes: tuple = ()  # each epoch's image side, images are resized to it; the last for the rest
    skip_fraction: float = key(0.0, least=0, most=0.9)  # of the easier half, left out of each epoch
    skip_after_epochs: int = key(1, least=1)  # epochs with every image before any is skipped
    loss: str = key("cross_entropy", among=("cross_entropy", "performance", "mse"))  # see nets.losses
    reduction: str = key("mean", among=REDUCTIONS)  # cross_entropy: over a batch
    label_smoothing: float = key(
        0.0, **SMOOTHING
    )  # cross_entropy: share of the target that all classes get equally
    optimizer: str = key("sgd", among=("sgd", "muon", "adaptive"))  # see nets.optim
    lr: float = key(0.1, **RANGES["lr"])  # learning rate
    momentum: float = key(0.0, **RANGES["momentum"])  # multiplies the velocity of the last step
    nesterov: bool = False  # Nesterov momentum
    weight_decay: float = key(0.0, **RANGES["weight_decay"])  # times the weight, added to its gradient
    param_groups: tuple = ()  # tables: match = ["*.bias"], and any of GROUP_RANGES
    schedule: str = key("constant", among=tuple(SCHEDULES))  # of the learning rate
    warmup_epochs: float = key(0.0, least=0, most=10**6)  # the learning rate rises from 0 to lr
    min_lr: float = key(0.0, least=0)  # the lowest learning rate of the schedule
    dtype: str = key("float32", among=("float32", "bfloat16", "float64"))  # weights: float32 at least
    channels_last: bool = True  # memory layout of images
    eval_every: int = key(1, least=1)  # epochs between tests
    on_nonfinite: str = key("stop", among=("stop", "skip", "ignore"))  # at an infinite or NaN loss or update
    max_nonfinite_steps: int = key(10, least=0)  # steps that may be skipped


@dataclass(frozen=True)
class Eval:
    """How the net is tested: see nets/data/tta.py."""

    tta: str = key("none", among=TTA_NAMES)  # test-time augmentation: views of each image that are averaged
    tta_fraction: float = key(1.0, least=0, most=1)  # share of images, the least certain, that get all views


@dataclass(frozen=True)
class Checkpoint:
    """When a checkpoint is written. One is at the end and after each epoch with the best score, too."""

    every_steps: int = key(0, least=0)  # steps between checkpoints; 0: by the clock only
    every_seconds: float = key(30.0, least=0)  # seconds between checkpoints


@dataclass(frozen=True)
class LogConfig:
    """What is logged while a run trains: see log.py."""

    every_steps: int = key(50, least=1)  # steps between lines
    tensorboard: bool = False  # events for TensorBoard too


@dataclass(frozen=True)
class Distributed:
    """How several processes train one net."""

    batch_norm: str = key("local", among=("local", "sync"))  # statistics of a process's rows, or of the batch
    reduce_dtype: str = key("same", among=("same", "bfloat16"))  # in which gradients are sent
    shard_optimizer: bool = False  # each process keeps a part of the momentum; sgd only
    connect_seconds: float = key(20.0, over=0, most=86400)  # in which the processes must find one another
    bucket_mb: float = key(4.0, over=0, most=4096)  # of gradients are sent at once


@dataclass(frozen=True)
class Config:
    name: str  # of the run's folder; the file's name by default
    seed: int = key(0, least=0)  # of start values, order, augmentation and dropout
    data: Data = Data()
    augment: Augment = Augment()
    net: NetConfig = NetConfig()
    train: Train = Train()
    eval: Eval = Eval()
    checkpoint: Checkpoint = Checkpoint()
    log: LogConfig = LogConfig()
    distributed: Distributed = Distributed()


def load(path, overrides=()) -> Config:
    """The config at a path, or of a shipped config's name, with "a.b=value" overrides.

    UsageError names the key that is wrong, the reason, and the nearest name that is known.
    """
    path = find_config(path)
    table = read(path)
    for override in overrides:
        set_value(table, override)
    table.setdefault("name", path.stem)
    check_renamed(table)
    check_plain(table)
    config = fill(Config, table, "")
    check_groups(config.train.param_groups, "train.param_groups")
    for i, side in enumerate(config.train.progressive_sizes):
        _check(side, int, {"least": 1, "most": 4096}, f"train.progressive_sizes[{i}]")
    validate.check(config)
    check_nesterov(config.train.nesterov, config.train.momentum, config.train.param_groups, "train.")
    return config


def with_absolute_root(config: Config) -> Config:
    """The config with a data.root that is valid in every current folder, if its source has one."""
    if config.data.source not in FROM_FOLDERS:
        return config
    root = str(expanded(config.data.root).absolute())
    return dataclasses.replace(config, data=dataclasses.replace(config.data, root=root))


def shipped_configs() -> dict[str, Path]:
    """Name -> path of the configs that come with the package."""
    package = Path(__file__).parents[1]
    for folder in (package / "configs", package.parent / "configs"):  # an installed package, a checkout
        if found := sorted(folder.glob("*.toml")):
            return {path.stem: path for path in found}
    return {}


def find_config(name_or_path) -> Path:
    """The path of a config: an existing path, or a shipped config's name. UsageError if there is none."""
    path, shipped = expanded(name_or_path), shipped_configs()
    if os.path.exists(path) and not path.is_dir():
        return path
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    hint = nearest(path.stem, shipped)
    if path.suffix or len(path.parts) > 1:  # meant as a path
        raise UsageError(f"config {path}: no such file{hint if 'did you mean' in hint else ''}")
    raise UsageError(f"config {path}: no such file, and no shipped config has this name{hint}")


def fill(cls, table, where: str):
    """The dataclass of a table. UsageError names the wrong key, with the prefix `where`."""
    if not isinstance(table, dict):
        raise UsageError(f"{where.rstrip('.')}: expected a table, got {shown(table)}")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    values = {}
    for name, value in table.items():
        if name not in fields:
            raise UsageError(f"{where}{key_text(name)}: unknown key{nearest(name, fields)}")
        f = fields[name]
        if dataclasses.is_dataclass(f.type):
            values[name] = fill(f.type, value, f"{where}{name}.")
        else:
            values[name] = _check(value, f.type, f.metadata, where + name)
    return cls(**values)


def _check(value, kind: Any, rules, where: str):
    if kind is float and type(value) is int:
        value = float(value)
    if kind is tuple and isinstance(value, list):
        value = tuple(value)
    if type(value) is not kind:
        words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        raise UsageError(f"{where}: expected {words.get(kind, 'a list')}, got {shown(value)}")
    check_range(value, where, **rules)
    return value
