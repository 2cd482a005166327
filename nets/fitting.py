"""`fit` trains a net of layers on data of one's own, as `nets train` trains a config's net on a data set."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader

from nets.common.device import keep_freed_memory, select_device, set_current_device
from nets.common.errors import Problem, UsageError, first_line, nearest
from nets.common.files import expanded
from nets.data import datasets
from nets.data.datasets import Dataset
from nets.layers.base import Layer
from nets.losses import CrossEntropyLoss, Loss, MSELoss, Performance
from nets.optim import SGD, Adaptive, Muon
from nets.report.run_figures import Figures
from nets.training import validate
from nets.training.config import Augment, Checkpoint, Config, Data, Eval, LogConfig, NetConfig, Train, fill
from nets.training.evaluate import outputs
from nets.training.hooks import Hook
from nets.training.loader import LoaderFeed
from nets.training.make import data_facts
from nets.training.run import Run
from nets.training.samples import dataset, is_path

LOSSES = {CrossEntropyLoss: "cross_entropy", MSELoss: "mse", Performance: "performance"}
OPTIMIZERS = {SGD: "sgd", Muon: "muon", Adaptive: "adaptive"}
SECTIONS = {"data": Data, "train": Train, "eval": Eval, "checkpoint": Checkpoint, "log": LogConfig}
# keys that the net, the loss, the optimizer and the data say themselves
GIVEN = {"source", "root", "loss", "reduction", "label_smoothing", "optimizer", "lr", "momentum", "nesterov"}
GIVEN |= {"weight_decay", "param_groups"}
# keyword -> (section, key): a key's own name, but every_steps and every_seconds have their section before it
KEYS = {
    f"{section}_{field.name}" if field.name.startswith("every_") else field.name: (section, field.name)
    for section, cls in SECTIONS.items()
    for field in dataclasses.fields(cls)
    if field.name not in GIVEN
}


class FitError(UsageError, ValueError):
    """Arguments of fit that don't go together."""


def fit(
    net: Layer,
    loss: Loss,
    optimizer,
    train,
    test=None,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    out: str | Path | None = None,
    resume: bool | Literal["inexact"] = False,
    force: bool = False,
    seed: int = 0,
    schedule: str = "constant",
    warmup_epochs: float = 0.0,
    min_lr: float = 0.0,
    device: str = "auto",
    dtype: str = "float32",
    backend: str = "native",
    augment: dict[str, Any] | Augment | None = None,
    classes: Sequence[str] | None = None,
    eval_every: int = 1,
    tta: str = "none",
    on_nonfinite: str = "stop",
    bar: bool = True,
    hooks: Sequence[Hook] = (),
    **more,
) -> Run:
    """Train a net, and return its run: .net, .top1, .top5, .metrics, .history, .out.

    net        any layer; trained in place, and in evaluation mode afterwards
    optimizer  made with net.params; it moves to the device with the net. If it has no number `lr`, the log's
               lr is the schedule's factor
    train      a pair (x, y), a torch Dataset, a DataLoader, or the path of an image tree
    test       the same, but no path; a tree has its own. A Dataset, or a DataLoader for testing, is read
               once into memory, in order
    out        folder of checkpoints, logs, figures and the result; None: everything stays in memory
    resume     resume from the folder's last checkpoint, or start if there is none; bit-identical to a run
               that was never stopped. "inexact": also with another number of threads, version of torch or
               the like, and then not bit-identical
    force      start anew and overwrite an earlier run
    seed       of the order of samples and of augmentation. Initial weights and dropout draw from torch's own
               random numbers: call torch.manual_seed before making the net
    backend    "reference", "torch" or "native": which kernels the layers run on. The default is the
               fastest. A config's is "reference": its bits depend on other kernels only if it names them
    augment    keys of [augment] in a config, such as {"flip": "random", "crop_padding": 4}; images only
    classes    their names; by default 0, 1, …
    hooks      more hooks: see nets/training/hooks
    more       other keys of a config's [train] and [eval]; checkpoint_every_steps,
               checkpoint_every_seconds, log_every_steps, tensorboard; and those of [data] for an image tree

    y of whole numbers (N) are classes; y of floats (N, …) are outputs, in the shape of the net's. x of
    uint8 (N, H, W, C) or (N, H, W) are images: they are normalized to mean 0 and standard deviation 1 a
    channel, can be augmented, and reach the net as floats (N, C, H, W). Any other x reaches the net as it
    is, floats in `dtype`. A DataLoader's batches are taken as they come, and must be floats; a resumed run
    gets the same batches (see nets/training/loader.py for what that needs).

    FitError, which is a ValueError, if arguments don't go together; DataError if data can't be read;
    NonFiniteError if a loss or gradient isn't finite; Stopped after a signal.
    """
    named = {"epochs": epochs, "batch_size": batch_size, "schedule": schedule, "warmup_epochs": warmup_epochs}
    named |= {
        "min_lr": min_lr,
        "dtype": dtype,
        "eval_every": eval_every,
        "on_nonfinite": on_nonfinite,
        "tta": tta,
    }
    out = None if out is None else expanded(out)
    with _value_errors():
        config = _config(net, loss, optimizer, train, named | more, augment, backend, seed, out)
        where = select_device(device)
        set_current_device(where)
        if where.type == "cpu":
            keep_freed_memory()
        validate.check(config, loader=isinstance(train, DataLoader))
        data = _data(train, test, classes, config)
        net.train()
        move_(net, optimizer, where, torch.promote_types(getattr(torch, dtype), torch.float32))
        data = _with_classes(net, data.to(where), classes, config)
        facts = data_facts(config, data)
        feed = None
        if isinstance(train, DataLoader):
            feed = LoaderFeed(train, config, len(data.train_y), where)
            facts |= {"samples": feed.n, "batch": feed.batch}
        validate.check(config, **facts, net=net, params=net.params)
        own = [*hooks, Figures()]
        run = FitRun(
            config, net, loss, lambda: optimizer, data, where, out, feed=feed, hooks=own, show_bar=bar
        )
        run.train(resume, force)
    net.eval()
    return run


class FitRun(Run):
    """A run of `fit`. Its settings don't describe the net, so they aren't a config."""

    settings_file = "settings.toml"
    option = "{}=True"
    inexact_option = 'resume="inexact"'


@contextlib.contextmanager
def _value_errors() -> Iterator[None]:
    """A UsageError within becomes a FitError."""
    try:
        yield
    except UsageError as e:
        raise e if isinstance(e, ValueError) else FitError(str(e)) from None


def _config(net, loss, optimizer, train, keys: dict, augment, backend: str, seed: int, out) -> Config:
    """The arguments as a config. UsageError names a wrong key."""
    if not isinstance(net, Layer):
        raise UsageError(f"net must be a layer of nets, not {type(net).__name__}")
    if loss.maximize != getattr(optimizer, "maximize", loss.maximize):
        raise UsageError(f"optimizer: {type(loss).__name__} needs maximize={loss.maximize}")
    tables: dict[str, dict] = {section: {} for section in SECTIONS}
    for name, value in keys.items():
        if name not in KEYS:
            raise UsageError(f"fit has no argument {name}{nearest(name, KEYS)}")
        section, key = KEYS[name]
        tables[section][key] = value
    if not is_path(train):
        for name in tables["data"].keys() - {"validation"}:
            raise UsageError(f"{name}: only for an image tree")
    about: dict[str, Any] = {"optimizer": OPTIMIZERS.get(type(optimizer), type(optimizer).__name__)}
    about |= {"loss": LOSSES.get(type(loss), type(loss).__name__)}
    about |= {
        name: getattr(optimizer, name)
        for name in ("momentum", "nesterov", "weight_decay")
        if hasattr(optimizer, name)
    }
    lr = getattr(optimizer, "lr", None)
    about["lr"] = float(lr) if isinstance(lr, (int, float)) else 1.0  # then the log has the schedule's factor
    about["param_groups"] = tuple(getattr(optimizer, "param_groups", ()))
    if type(loss) is CrossEntropyLoss:
        about |= {"label_smoothing": loss.label_smoothing, "reduction": loss.reduction}
    augment = vars(augment) if isinstance(augment, Augment) else augment or {}
    source = {"source": "folder", "root": str(train)} if is_path(train) else {"source": "the training data"}
    layers = tuple(type(layer).__name__ for layer in net.leaves())
    return Config(
        name=out.resolve().name if out is not None else "fit",
        seed=fill(Config, {"name": "fit", "seed": seed}, "").seed,
        data=dataclasses.replace(fill(Data, tables["data"], ""), **source),
        augment=fill(Augment, augment, "augment."),
        net=fill(NetConfig, {"layers": layers, "backend": backend}, ""),
        train=dataclasses.replace(fill(Train, tables["train"], ""), **about),
        eval=fill(Eval, tables["eval"], ""),
        checkpoint=fill(Checkpoint, tables["checkpoint"], "checkpoint_"),
        log=fill(LogConfig, tables["log"], "log_"),
    )


def _data(train, test, classes, config: Config) -> Dataset:
    """The samples, on the CPU."""
    if not is_path(train):
        return datasets.hold_out(
            dataset(train, test, tuple(classes or ()), config.seed), config.data.validation
        )
    if test is not None:
        raise UsageError("test: an image tree has its own test images; leave it out")
    data = datasets.load(config.data, config.augment)
    if classes is not None and tuple(classes) != data.classes:
        raise UsageError(f"classes: the image tree has {', '.join(data.classes)}")
    return data


def move_(net: Layer, optimizer, device: torch.device, dtype: torch.dtype):
    """Move the net's and the optimizer's tensors in place: both keep the very tensors that they share."""
    tensors = [*net.params.values(), *net.buffers.values(), *optimizer.state().values()]
    if not tensors:
        raise UsageError("net: has no parameters to train")
    theirs = {id(t) for t in getattr(optimizer, "params", net.params).values()}
    if theirs != {id(t) for t in net.params.values()}:
        raise UsageError("optimizer: make it with net.params, of the net that is trained")
    for t in {id(t): t for t in tensors}.values():
        t.data = t.to(device, dtype if t.is_floating_point() else None)


def _with_classes(net: Layer, data: Dataset, classes, config: Config) -> Dataset:
    """The data set with the names of its classes. UsageError if the net's outputs don't fit its targets."""
    y = data.train_y
    dtype, wide = getattr(torch, config.train.dtype), config.train.channels_last
    try:
        z = outputs(net, data.train_x[:2], data, dtype, wide)
    except (RuntimeError, ValueError, TypeError, IndexError, Problem) as e:
        raise UsageError(f"net: can't take samples of shape {data.shape}: {first_line(e)}") from None
    if y.is_floating_point():
        if z.shape[1:] != y.shape[1:]:
            raise UsageError(f"net: its output is {tuple(z.shape[1:])}, y needs {tuple(y.shape[1:])}")
        return dataclasses.replace(data, classes=())
    count = z.shape[1] if z.dim() == 2 else 0
    names = data.classes or tuple(map(str, classes or range(count)))
    if z.dim() != 2 or len(names) != count:
        needed = f"{len(names)} classes need ({len(names)})" if names else "classes need (K)"
        raise UsageError(f"net: its output is {tuple(z.shape[1:])}, {needed}")
    for name, target in (("train", y), ("test", data.test_y)):
        if target is not None and not 0 <= int(target.min()) <= int(target.max()) < count:
            found = f"{int(target.min())} to {int(target.max())}"
            raise UsageError(f"{name}: classes are {found}, the net has {count} outputs")
    return dataclasses.replace(data, classes=names)
