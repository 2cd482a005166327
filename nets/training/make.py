"""From a config to what trains: its net, its loss and its optimizer."""

import dataclasses
import hashlib
from typing import Any

import torch

from nets.common.device import memory_capacity
from nets.common.errors import DataError, UsageError
from nets.data import augment, datasets
from nets.data.datasets import Dataset
from nets.data.digest import digest
from nets.data.stream import ImageStream
from nets.losses import CrossEntropyLoss, MSELoss, Performance
from nets.optim.adaptive import Adaptive
from nets.optim.muon import Muon
from nets.optim.sgd import SGD
from nets.training import validate
from nets.training.build import build
from nets.training.config import Config
from nets.training.toml import dumps
from nets.training.world import World


def parts(config: Config, device: torch.device, world: World = World()):
    """(net, loss, data) of a config, on the device. UsageError or DataError if anything is wrong."""
    with world.local_main_first():
        data = datasets.load(config.data, config.augment)
    if world.size > 1:
        _check_equal(config, data, world)
    loss = make_loss(config, bool(data.classes))
    copies = 3 if device.type == "cpu" else 1  # with gradients and momentum
    net = make_net(config, data.shape, data.num_outputs, copies=copies)
    validate.check(config, **data_facts(config, data), net=net, params=net.params)
    net.to(device, torch.promote_types(getattr(torch, config.train.dtype), torch.float32))
    return net, loss, data.to(device)


def _check_equal(config: Config, data: Dataset, world: World):
    """UsageError or DataError where the processes have different configs or data: no step would be right."""
    local = dataclasses.replace(config.data, root="")  # the folder may differ
    text = dumps(dataclasses.replace(config, data=local))
    if ranks := world.differing(hashlib.sha256(text.encode()).hexdigest()):
        raise UsageError(f"config: not the same on all processes; rank {ranks[0]} has another than rank 0")
    if ranks := world.differing(digest(data)):
        where = f"{config.data.root}: not the same samples and labels on all processes"
        raise DataError(f"{where}; rank {ranks[0]} has others than rank 0")


def data_facts(config: Config, data: Dataset) -> dict[str, Any]:
    """What validate.check can know about a data set."""
    samples = len(data.train_y)
    return {
        "shape": data.shape,
        "images": data.mean is not None,
        "classes": bool(data.classes),
        "streamed": isinstance(data.train_x, ImageStream),
        "samples": samples,
        "batch": min(config.train.batch_size, samples),
    }


def make_net(config: Config, shape, n_outputs: int, seed: int | None = None, copies: int = 1):
    """The config's net, its initial values drawn from the seed. UsageError if it doesn't fit.

    copies: how many copies of its weights memory must hold. Training also needs gradients and momentum.
    """
    _check_memory(config, shape, copies)
    torch.manual_seed(config.seed if seed is None else seed)
    net, out = build(config.net.layers, shape, config.net.recompute)
    validate.check(config, output=out, targets=n_outputs)
    return net


def _check_memory(config: Config, shape, copies: int):
    """UsageError if the weights need more than the machine's memory. The check itself takes none."""
    if torch.get_default_device().type == "meta":
        return
    with torch.device("meta"):
        net, _ = build(config.net.layers, shape)
    sizes = {name: t.nbytes for name, t in (net.params | net.buffers).items()}
    size = copies * sum(sizes.values())
    if size > memory_capacity():
        largest = max(sizes, key=lambda name: sizes[name])
        raise UsageError(
            f"net.layers: {size / 1e6:,.0f} MB for the weights, most of them in {largest}, are more than"
            f" this machine's memory, {memory_capacity() / 1e6:,.0f} MB"
        )


def initialize_from_data(net, data: Dataset):
    """Fit a first layer that has `fit` (Whiten2d) to training samples: 5,000 images for CIFAR.

    A layer that is fitted already, by an earlier run or from a file, stays as it is.
    """
    first = net.leaves()[0]
    if hasattr(first, "fit") and not (hasattr(first, "is_fitted") and first.is_fitted()):
        some = data.train_x[:: max(1, data.train_x.numel() // (5000 * 32 * 32 * 3))]
        if data.mean is not None and data.std is not None:
            some = augment.normalize(some, data.mean, data.std, torch.float32)
        first.fit(some.float())


def make_loss(config: Config, classes: bool):
    """The config's loss, for targets that are classes or not. UsageError where they don't fit."""
    validate.check(config, classes=classes)
    t = config.train
    if t.loss == "cross_entropy":
        return CrossEntropyLoss(t.label_smoothing, t.reduction)
    return Performance() if t.loss == "performance" else MSELoss()


def make_optimizer(config: Config, net, loss):
    """The config's optimizer for a net's parameters. UsageError where there are none."""
    validate.check(config, params=net.params)
    t = config.train
    if t.optimizer == "adaptive":
        return Adaptive(net.params, t.lr, maximize=loss.maximize)
    kind = Muon if t.optimizer == "muon" else SGD
    return kind(net.params, t.lr, t.momentum, t.nesterov, t.weight_decay, loss.maximize, t.param_groups)
