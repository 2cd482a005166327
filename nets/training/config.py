"""Configs: a TOML file becomes frozen dataclasses, and whatever is wrong is named at once."""

import dataclasses
import json
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from nets.common.errors import UsageError, nearest
from nets.data.tta import TTA_NAMES
from nets.kernels import BACKENDS
from nets.losses import REDUCTIONS
from nets.optim.schedules import SCHEDULES

LARGEST = 2**18  # bytes of a config
DEEPEST = 50  # tables and lists in one another
# (layer, old option) -> its new name
RENAMED_OPTIONS = {
    ("Linear", "inputs"): "in_features",
    ("Linear", "outputs"): "out_features",
    ("Linear", "spread"): "init_bound",
    ("Linear", "std"): "init_std",
    ("Linear", "bias_start"): "init_bias",
    ("Conv2d", "dirac"): "init_dirac",
    ("Conv2d", "std"): "init_std",
    ("Conv2d", "bias_start"): "init_bias",
    ("BatchNorm2d", "channels"): "num_features",
    ("Whiten2d", "channels"): "in_channels",
}
SOURCES = ("digits", "cifar10", "cifar100", "folder", "identity", "half_adder")


def key(default, *, least=None, most=None, over=None, among=None):
    """A field with the values that it admits: least <= value <= most, value > over, one of."""
    rules = {"least": least, "most": most, "over": over, "among": among}
    return field(default=default, metadata=rules)


@dataclass(frozen=True)
class Data:
    """The data set, and how its images are read."""

    source: str = key("digits", among=SOURCES)
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


@dataclass(frozen=True)
class Augment:
    """Data augmentation of training images."""

    crop_padding: int = key(0, least=0)  # random shifts of up to so many pixels, edges reflected
    random_resized_crop: float = key(
        0.0, least=0, most=1
    )  # folder: smallest area of a random crop, 0 for none
    flip: str = key("none", among=("none", "random", "alternating"))  # left to right
    color_jitter: float = key(0.0, least=0)  # along the principal axes of the colors, in standard deviations
    cutout: int = key(0, least=0, most=4096)  # side of a random square that is set to the mean, 0 for none


@dataclass(frozen=True)
class Net:
    """The layers, in order: names, or tables with `type` and the layer's options."""

    layers: tuple = ()
    backend: str = key("reference", among=BACKENDS)  # which kernels the layers run on
    recompute: bool = False  # backward computes activations again instead of keeping them


@dataclass(frozen=True)
class Train:
    """How the net is trained."""

    epochs: int = key(10, least=1, most=10**6)
    batch_size: int = key(128, least=1)
    progressive_sizes: tuple = ()  # each epoch's image side, images are resized to it; the last for the rest
    skip_fraction: float = key(0.0, least=0, most=0.9)  # of the easier half, left out of each epoch
    skip_after_epochs: int = key(1, least=1)  # epochs with every image before any is skipped
    loss: str = key("cross_entropy", among=("cross_entropy", "performance", "mse"))
    reduction: str = key("mean", among=REDUCTIONS)  # cross_entropy: over a batch
    label_smoothing: float = key(0.0, least=0, most=1)
    optimizer: str = key("sgd", among=("sgd", "muon", "adaptive"))
    lr: float = key(0.1, over=0)
    momentum: float = key(0.0, least=0, most=1)
    nesterov: bool = False
    weight_decay: float = key(0.0, least=0)
    param_groups: tuple = ()  # tables: match = ["*.bias"], and any of GROUP_KEYS
    schedule: str = key("constant", among=tuple(SCHEDULES))
    warmup_epochs: float = key(0.0, least=0, most=10**6)
    min_lr: float = key(0.0, least=0)  # the schedule goes no lower
    dtype: str = key("float32", among=("float32", "bfloat16", "float64"))
    channels_last: bool = True
    eval_every: int = key(1, least=1)  # epochs
    on_nonfinite: str = key(
        "stop", among=("stop", "skip", "ignore")
    )  # at a loss or gradient that isn't finite
    max_nonfinite_steps: int = key(10, least=0)  # steps that may be skipped


@dataclass(frozen=True)
class Eval:
    """How the net is tested: see nets/data/tta.py."""

    tta: str = key("none", among=TTA_NAMES)  # test-time augmentation: views of each image that are averaged
    tta_fraction: float = key(1.0, least=0, most=1)  # share of images, the least certain, that get all views


@dataclass(frozen=True)
class Checkpoint:
    """When a checkpoint is written, besides the end of the run and of each epoch with the best score."""

    every_steps: int = key(0, least=0)  # 0: by the clock alone
    every_seconds: float = key(30.0, least=0)


@dataclass(frozen=True)
class Log:
    """What is logged while a run trains: see log.py."""

    every_steps: int = key(50, least=1)  # steps between lines
    tensorboard: bool = False  # events for TensorBoard too


@dataclass(frozen=True)
class Distributed:
    """How several processes train one net: see nets/distributed."""

    batch_norm: str = key("local", among=("local", "sync"))  # statistics of a process's rows, or of the batch
    reduce_dtype: str = key("same", among=("same", "bfloat16"))  # in which gradients are sent
    shard_optimizer: bool = False  # each process keeps a part of the momentum; sgd only
    bucket_mb: float = key(4.0, over=0, most=4096)  # of gradients are sent at once


@dataclass(frozen=True)
class Config:
    name: str
    seed: int = key(0, least=0)
    data: Data = Data()
    augment: Augment = Augment()
    net: Net = Net()
    train: Train = Train()
    eval: Eval = Eval()
    checkpoint: Checkpoint = Checkpoint()
    log: Log = Log()
    distributed: Distributed = Distributed()


# the keys of a table in train.param_groups; `lr_scale` multiplies train.lr
GROUP_KEYS = {
    "match": tuple,
    "lr_scale": float,
    "momentum": float,
    "weight_decay": float,
    "until_epoch": float,
}


def load(path, overrides=()) -> Config:
    """The config at `path`, with "a.b=value" overrides. UsageError names what is wrong."""
    try:
        with open(path, "rb") as file:
            raw = file.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise UsageError(f"config {path}: more than {LARGEST:,} bytes, too many for a config")
        table = tomllib.loads(raw.decode("utf-8"))
    except OSError as e:
        raise UsageError(f"config {path}: {e.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"config {path}: not a text file") from None
    except (ValueError, RecursionError) as e:  # TOMLDecodeError is a ValueError
        raise UsageError(f"config {path}: {e}") from None
    for override in overrides:
        _override(table, override)
    table.setdefault("name", Path(path).stem)
    plain(table)
    config = _fill(Config, table, "")
    if not config.name or "/" in config.name or "\\" in config.name or config.name in (".", ".."):
        raise UsageError(f"name: \"{config.name}\" can't be a folder's name")
    if not config.net.layers:
        raise UsageError("net.layers: a net needs at least one layer")
    for i, group in enumerate(config.train.param_groups):
        _check_group(group, f"train.param_groups[{i}]")
    for i, side in enumerate(config.train.progressive_sizes):
        _check(side, int, {"least": 1, "most": 4096}, f"train.progressive_sizes[{i}]")
    _check_data(config)
    if config.distributed.shard_optimizer and config.train.optimizer != "sgd":
        raise UsageError(
            f"train.optimizer: distributed.shard_optimizer is for sgd, not {config.train.optimizer}"
        )
    return config


def _override(table: dict, override: str):
    where, equals, text = override.partition("=")
    if not equals or not where:
        raise UsageError(f'--set {override}: write it as key=value, for example "train.lr=0.1"')
    try:
        value = tomllib.loads(f"value = {text}")
        value = value["value"] if len(value) == 1 else text
    except (ValueError, KeyError, RecursionError):
        value = text  # a bare word is a string
    *parents, last = where.split(".")
    for name in parents:
        if isinstance(table, list):
            table = table[_place(table, name, override)]
        else:
            table = table.setdefault(name, {})
        if not isinstance(table, (dict, list)):
            raise UsageError(f"--set {override}: {name} is a value, not a table")
    table[_place(table, last, override) if isinstance(table, list) else last] = value


def _place(items: list, name: str, override: str) -> int:
    """Which of a list's items: 0, 1, … from its start, -1, -2, … from its end."""
    if not name.removeprefix("-").isdecimal() or not -len(items) <= int(name) < len(items):
        raise UsageError(f"--set {override}: {name} is no place in a list of {len(items)}")
    return int(name)


def _fill(cls, table, where: str):
    if not isinstance(table, dict):
        raise UsageError(f"{where.rstrip('.')}: expected a table, got {_shown(table)}")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    values = {}
    for name, value in table.items():
        if name not in fields:
            raise UsageError(f"{where}{_toml_key(name)}: unknown key{nearest(name, fields)}")
        f = fields[name]
        if dataclasses.is_dataclass(f.type):
            values[name] = _fill(f.type, value, f"{where}{name}.")
        else:
            values[name] = _check(value, f.type, f.metadata, where + name)
    return cls(**values)


def plain(value, where: str = "", deep: int = 0):
    """UsageError names what no key can hold, at whatever place it stands."""
    if deep > DEEPEST:
        raise UsageError(f"{where}: nested too deeply")
    if isinstance(value, dict):
        for name, inner in value.items():
            plain(inner, f"{where}.{_toml_key(name)}".removeprefix("."), deep + 1)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            plain(inner, f"{where}[{i}]", deep + 1)
    elif isinstance(value, str):
        if not value.isprintable():
            raise UsageError(f"{where}: {value[:60]!r} is not plain text")
    elif isinstance(value, (int, float)):
        if not math.isfinite(value if isinstance(value, float) else 0):
            raise UsageError(f"{where}: expected a finite number, got {value}")
        if abs(value) >= (2**63 if isinstance(value, int) else 1e38):  # nor has float32 more
            raise UsageError(f"{where}: a number so large can't be used")
    else:
        raise UsageError(f"{where}: a date or a time of day is nothing that can be set")


def _check(value, kind: type, rules, where: str):
    if kind is float and type(value) is int:
        value = float(value)
    if kind is tuple and isinstance(value, list):
        value = tuple(value)
    if type(value) is not kind:
        words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        raise UsageError(f"{where}: expected {words.get(kind, 'a list')}, got {_shown(value)}")
    least, most, over, among = (rules.get(r) for r in ("least", "most", "over", "among"))
    if among is not None and value not in among:
        hint = nearest(value, map(str, among))
        raise UsageError(f"{where}: {_shown(value)} is not one of its values{hint}")
    if least is not None and value < least:
        raise UsageError(f"{where}: must be at least {least}, got {value}")
    if over is not None and value <= over:
        raise UsageError(f"{where}: must be more than {over}, got {value}")
    if most is not None and value > most:
        raise UsageError(f"{where}: must be at most {most}, got {value}")
    return value


def _check_group(group, where: str):
    if not isinstance(group, dict):
        raise UsageError(f"{where}: expected a table, got {_shown(group)}")
    for name, value in group.items():
        if name not in GROUP_KEYS:
            raise UsageError(f"{where}.{_toml_key(name)}: unknown key{nearest(name, GROUP_KEYS)}")
        _check(value, GROUP_KEYS[name], {"least": None if name == "match" else 0}, f"{where}.{name}")
    if not all(isinstance(m, str) for m in group.get("match", [0])):
        raise UsageError(f'{where}.match: a group needs name patterns, such as ["*.bias"]')


def _check_data(config: Config):
    data = config.data
    for name in ("crop_size", "num_classes") if data.source != "folder" else ():
        if getattr(data, name):
            raise UsageError(f"data.{name}: only a folder has it, not {data.source}")
    if data.normalize != "mean_std" and data.source != "folder":
        raise UsageError(f"data.normalize: only a folder has a choice, not {data.source}")
    if data.crop_size > data.size:
        raise UsageError(f"data.crop_size: {data.crop_size} is more than data.size, {data.size}")
    if data.crop_size and config.augment.crop_padding:
        raise UsageError("augment.crop_padding: pictures are shifted by data.crop_size already")
    if config.train.min_lr > config.train.lr:
        raise UsageError(f"train.min_lr: {config.train.min_lr} is more than train.lr, {config.train.lr}")


def _shown(value) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) < 60 else text[:57] + "…"


def dumps(config: Config) -> str:
    """The config as TOML that `load` reads back to an equal config."""
    lines = []
    for name, value in vars(config).items():
        if dataclasses.is_dataclass(value):
            lines += ["", f"[{name}]"]
            lines += [f"{k} = {toml(v)}" for k, v in vars(value).items()]
        else:
            lines.append(f"{name} = {toml(value)}")
    return "\n".join(lines) + "\n"


def toml(value, indent: int = 0) -> str:
    """A value as TOML writes it."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml_key(k)} = {toml(v, indent)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        if not any(isinstance(v, dict) for v in value):
            return "[" + ", ".join(toml(v) for v in value) + "]"
        inner = "".join(f"{'  ' * (indent + 1)}{toml(v, indent + 1)},\n" for v in value)
        return f"[\n{inner}{'  ' * indent}]"
    return json.dumps(value)  # numbers, true, false; a date can't pass _check


def _toml_key(name: str) -> str:
    return name if name.replace("_", "a").isalnum() and name.isascii() else toml(name)


def shipped_configs() -> dict[str, Path]:
    """Name -> path of the configs that come with the package."""
    package = Path(__file__).parents[1]
    for folder in (package / "configs", package.parent / "configs"):  # an installed package, a checkout
        if found := sorted(folder.glob("*.toml")):
            return {path.stem: path for path in found}
    return {}


def find_config(name) -> Path:
    """The path of a config: `name` is a path, or a shipped config's name. UsageError if there is none."""
    path, shipped = Path(name), shipped_configs()
    if path.is_file() or path.suffix == ".toml" or len(path.parts) > 1:
        return path
    if str(name) not in shipped:
        raise UsageError(f'config "{name}": no such file and no shipped config{nearest(name, shipped)}')
    return shipped[str(name)]
