"""From a config to what trains: its net, its loss and its optimizer."""

import torch

from nets.common.device import memory_capacity
from nets.common.errors import UsageError
from nets.data import batches, datasets
from nets.data.datasets import Dataset
from nets.losses import CrossEntropyLoss, MSELoss, Performance
from nets.optim.adaptive import Adaptive
from nets.optim.muon import Muon
from nets.optim.sgd import SGD
from nets.training import validate as fits
from nets.training.build import build
from nets.training.config import Config
from nets.training.world import World


def parts(config: Config, device: torch.device, world: World = World()):
    """(net, loss, data) of a config, on the device. UsageError or DataError for whatever is wrong with them."""
    with world.local_main_first():
        data = datasets.load(config.data, config.augment)
    fits.check_variation(config, data)
    loss = make_loss(config, bool(data.classes))
    copies = 3 if device.type == "cpu" else 1  # with gradients and momentum
    net = make_net(config, data.shape, data.outputs, copies=copies)
    n = len(data.train_y)
    fits.check_batch(config, data.shape, min(config.train.batch_size, n), n)
    net.to(device, torch.promote_types(getattr(torch, config.train.dtype), torch.float32))
    return net, loss, data.to(device)


def make_net(config: Config, shape, n_outputs: int, seed: int | None = None, copies: int = 1):
    """The config's net, its initial values drawn from the seed. UsageError if it doesn't fit.

    copies: memory must suffice for so many copies of its weights; training needs gradients and momentum too.
    """
    _check_memory(config, shape, copies)
    torch.manual_seed(config.seed if seed is None else seed)
    net, out = build(config.net.layers, shape, config.net.recompute)
    if out != (n_outputs,):
        size = " × ".join(map(str, out))
        raise UsageError(f"net.layers: the net gives {size} numbers, {config.data.source} needs {n_outputs}")
    return net


def _check_memory(config: Config, shape, copies: int):
    """UsageError if the weights need more than the machine's memory. Built on the meta device, without memory."""
    if torch.get_default_device().type == "meta":
        return
    with torch.device("meta"):
        net, _ = build(config.net.layers, shape)
    sizes = {name: t.nbytes for name, t in (net.params | net.buffers).items()}
    size = copies * sum(sizes.values())
    if size > memory_capacity():
        largest = max(sizes, key=sizes.get)
        raise UsageError(
            f"net.layers: {size / 1e6:,.0f} MB for the weights, most of them in {largest}, are more than"
            f" this machine's memory, {memory_capacity() / 1e6:,.0f} MB"
        )


def initialize_from_data(net, data: Dataset):
    """Fit a first layer that has `fit` (Whiten2d) to training samples: of CIFAR 5,000 images, of all classes."""
    for layer in net.walk():
        if hasattr(layer, "fit"):
            if layer is not net.leaves()[0]:
                raise UsageError(f"net.layers: {type(layer).__name__} can only be the first layer")
            some = data.train_x[:: max(1, data.train_x.numel() // (5000 * 32 * 32 * 3))]
            if data.mean is not None:
                some = batches.normalize(some, data.mean, data.std, torch.float32)
            layer.fit(some.float())


def make_loss(config: Config, classes: bool):
    t = config.train
    if t.loss != "cross_entropy":
        if t.label_smoothing:
            raise UsageError("train.label_smoothing: only cross_entropy has it")
        if t.reduction != "mean":
            raise UsageError("train.reduction: only cross_entropy has a choice")
        return Performance() if t.loss == "performance" else MSELoss()
    if not classes:
        others = '"performance" or "mse"'
        raise UsageError(f"train.loss: {config.data.source} has no classes; use {others}")
    return CrossEntropyLoss(t.label_smoothing, t.reduction)


def make_optimizer(config: Config, net, loss):
    t = config.train
    if not net.params:
        raise UsageError("net.layers: there is nothing to train in this net")
    if t.optimizer == "adaptive":
        for name in ("momentum", "nesterov", "weight_decay", "param_groups"):
            if getattr(t, name):
                raise UsageError(f"train.{name}: the adaptive optimizer has none; leave it out")
        return Adaptive(net.params, t.lr, maximize=loss.maximize)
    kind = Muon if t.optimizer == "muon" else SGD
    return kind(net.params, t.lr, t.momentum, t.nesterov, t.weight_decay, loss.maximize, t.param_groups)
