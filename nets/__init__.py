"""Nets in PyTorch whose every layer has its own hand-written forward and backward.

    from nets import Sequential, Linear, ReLU, CrossEntropyLoss, SGD, check, fit

    net = Sequential(Linear(4, 16), ReLU(), Linear(16, 3))
    check(net, x).raise_if_wrong()
    run = fit(net, CrossEntropyLoss(), SGD(net.params, lr=0.1), train=(x, y), test=(x2, y2), epochs=10)
    run.top1, run.top5, net(x)

A layer has `y, saved = layer.forward(x)` and `dx, grads = layer.backward(saved, dy)`; a net is a layer.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nets.api import *  # noqa: F403
    from nets.api import __all__ as __all__

__version__ = "0.2.0"


def __getattr__(name: str):
    """Imports the API at the first use of a name: `nets --help` and an early Ctrl-C need no torch."""
    if name == "__all__" or not name.startswith("__"):
        api = importlib.import_module("nets.api")
        public = getattr(api, "__all__", None)  # None while nets.api itself is being imported
        if public:
            names = {public_name: getattr(api, public_name) for public_name in public}
            globals().update(names, __all__=[*public, "__version__"])
    if name in globals():
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
