"""From a config to what trains: its net, its loss and its optimizer."""

import torch

from nets.common.device import memory_capacity
from nets.common.errors import UsageError
from nets.data import batches
from nets.losses import CrossEntropyLoss, MSELoss, Performance
from nets.optim.adaptive import Adaptive
from nets.optim.muon import Muon
from nets.optim.sgd import SGD
from nets.training.build import build
from nets.training.config import Config


def make_net(config: Config, shape, n_outputs: int, seed: int | None = None, copies: int = 1):
    """The config's net, its start values drawn from the seed. UsageError where it doesn't fit.

    copies: there must be memory for so many of its weights; in training for gradients and momenta too.
    """
    _check_memory(config, shape, copies)
    torch.manual_seed(config.seed if seed is None else seed)
    net, out = build(config.net.layers, shape, config.net.recompute)
    if out != (n_outputs,):
        size = " × ".join(map(str, out))
        raise UsageError(f"net.layers: the net gives {size} numbers, {config.data.source} needs {n_outputs}")
    return net


def _check_memory(config: Config, shape, copies: int):
    """UsageError where the weights are more than memory holds: asked of a net that takes none."""
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


def fit(net, data):
    """Let a first layer that is read off the pictures see some, 5,000 of CIFAR's, of all classes."""
    for layer in net.walk():
        if hasattr(layer, "fit"):
            if layer is not next(iter(net.children.values())):
                raise UsageError(f"net.layers: {type(layer).__name__} can only be the first layer")
            some = data.train_x[:: max(1, data.train_x.numel() // (5000 * 32 * 32 * 3))]
            layer.fit(batches.normalize(some, data.mean, data.std, torch.float32))


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
