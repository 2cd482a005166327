"""Nets in PyTorch whose every layer has its own hand-written forward and backward.

    from nets import Sequential, Linear, ReLU, CrossEntropyLoss, SGD, check, fit

    net = Sequential(Linear(4, 16), ReLU(), Linear(16, 3))
    check(net, x).raise_if_wrong()
    run = fit(net, CrossEntropyLoss(), SGD(net.params, lr=0.1), train=(x, y), test=(x2, y2), epochs=10)
    run.top1, run.top5, net(x)

A layer has `y, saved = layer.forward(x)` and `dx, grads = layer.backward(saved, dy)`; a net is a layer.
"""

from nets.convert.from_torch import from_torch
from nets.convert.to_torch import to_torch, torch_state
from nets.fitting import fit
from nets.gradcheck import check
from nets.layers import *  # noqa: F403 (every registered layer, also one in a new file)
from nets.layers import __all__ as _layers
from nets.layers.saving import load, save
from nets.losses import CrossEntropyLoss, Loss, MSELoss, Performance
from nets.optim import SGD, Adaptive, Muon

__version__ = "0.2.0"
__all__ = [
    "SGD",
    "Adaptive",
    "CrossEntropyLoss",
    "Loss",
    "MSELoss",
    "Muon",
    "Performance",
    "__version__",
    "check",
    "fit",
    "from_torch",
    "load",
    "save",
    "to_torch",
    "torch_state",
]
__all__ += _layers  # pyright: ignore[reportUnsupportedDunderAll]
