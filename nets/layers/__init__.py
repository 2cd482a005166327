"""The layers. Each has its formula, its hand-derived backward, its equivalent in torch, and examples.

A layer that is decorated with @register, in any file of this folder, is available in configs, in gradcheck,
in the conversion from and to torch, and as a name of this package.
"""

import importlib
import pkgutil

from nets.layers.activations import GELU, ReLU, Scale, Sigmoid, SiLU, Tanh
from nets.layers.adaptive_pool import AdaptiveAvgPool2d
from nets.layers.base import Layer
from nets.layers.containers import Net, Residual, Sequential
from nets.layers.conv import Conv2d
from nets.layers.dropout import Dropout
from nets.layers.graph import Graph
from nets.layers.linear import Flatten, Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import AvgPool2d, GlobalAvgPool, GlobalMaxPool, MaxPool2d
from nets.layers.registry import LAYERS, register
from nets.layers.response_norm import LocalResponseNorm
from nets.layers.sizes import Size
from nets.layers.to_module import to_module
from nets.layers.whiten import Whiten2d

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
globals().update(LAYERS)

__all__ = [
    "GELU",
    "LAYERS",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "Graph",
    "Layer",
    "Linear",
    "LocalResponseNorm",
    "MaxPool2d",
    "Net",
    "ReLU",
    "Residual",
    "Scale",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Size",
    "Tanh",
    "Whiten2d",
    "register",
    "to_module",
]
__all__ += sorted(LAYERS.keys() - set(__all__))  # pyright: ignore[reportUnsupportedDunderAll]
