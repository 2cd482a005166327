"""From a config to what trains: its net, its loss and its optimizer."""

import torch

from nets.common.device import memory_capacity
from nets.common.errors import UsageError
from nets.data import augment
from nets.losses import CrossEntropyLoss, MSELoss, Performance
from nets.optim.adaptive import Adaptive
from nets.optim.muon import Muon
from nets.optim.sgd import SGD
from nets.training import validate
from nets.training.build import build
from nets.training.config import Config


def make_net(config: Config, shape, n_outputs: int, seed: int | None = None, copies: int = 1):
    """The config's net, its initial values drawn from the seed. UsageError where it doesn't fit the data.

    copies: memory must hold its weights so many times, in training for gradients and momenta too.
    """
    _check_memory(config, shape, copies)
    torch.manual_seed(config.seed if seed is None else seed)
    net, out = build(config.net.layers, shape, config.net.recompute)
    validate.check(config, output=out, targets=n_outputs)
    return net


def _check_memory(config: Config, shape, copies: int):
    """UsageError where the weights are more than memory holds, before any memory is taken."""
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
    """Fit a first layer such as Whiten2d to every k-th training image, 5,000 of CIFAR's."""
    first = net.leaves()[0]
    if hasattr(first, "fit"):
        some = data.train_x[:: max(1, data.train_x.numel() // (5000 * 32 * 32 * 3))]
        first.fit(augment.normalize(some, data.mean, data.std, torch.float32))


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
