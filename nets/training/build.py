"""From a config's list of layers to a net: sizes that follow from the input are filled in."""

import inspect
import math

import torch

from nets.common.errors import UsageError, nearest
from nets.layers.activations import GELU, ReLU, Scale, Sigmoid, SiLU, Tanh
from nets.layers.adaptive_pool import AdaptiveAvgPool2d
from nets.layers.base import Layer
from nets.layers.containers import Residual, Sequential
from nets.layers.conv import Conv2d
from nets.layers.dropout import Dropout
from nets.layers.linear import Flatten, Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import AvgPool2d, GlobalAvgPool, GlobalMaxPool, MaxPool2d
from nets.layers.response_norm import LocalResponseNorm
from nets.layers.whiten import Whiten2d

LAYERS = {
    cls.__name__: cls
    for cls in (
        *(Linear, Scale, Sigmoid, Tanh, ReLU, GELU, SiLU, Flatten, Dropout, Conv2d),
        *(MaxPool2d, AvgPool2d, GlobalAvgPool, GlobalMaxPool, BatchNorm2d, Whiten2d, Sequential),
        *(AdaptiveAvgPool2d, LocalResponseNorm, Residual),
    )
}
# the option that the shape of the input decides, and which dimension decides it
INFERRED = {
    Linear: ("inputs", -1),
    Conv2d: ("in_channels", 1),
    BatchNorm2d: ("channels", 1),
    Whiten2d: ("channels", 1),
}
SEE_PICTURES = (
    *(Conv2d, BatchNorm2d, LocalResponseNorm, Whiten2d),
    *(MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, GlobalAvgPool, GlobalMaxPool),
)
NESTED = {Sequential: ("layers",), Residual: ("body", "shortcut")}


def build(layers, shape: tuple[int, ...], kernel: str = "reference", where: str = "net.layers"):
    """The net of a config's `layers`, for one sample of `shape`; start values from torch's seed.

    Returns (Sequential, shape of one output sample). UsageError names the layer and the reason.
    """
    built = []
    for i, spec in enumerate(layers):
        layer, shape = _layer(spec, shape, kernel, f"{where}[{i}]")
        built.append(layer)
    return Sequential(*built), shape


def _layer(spec, shape, kernel, where) -> tuple[Layer, tuple[int, ...]]:
    if isinstance(spec, str):
        spec = {"type": spec}
    if not isinstance(spec, dict) or not isinstance(spec.get("type"), str):
        raise UsageError(f'{where}: a layer is a name or a table such as {{ type = "ReLU" }}')
    options = dict(spec)
    name = options.pop("type")
    if name not in LAYERS:
        raise UsageError(f'{where}: no layer is called "{name}"{nearest(name, LAYERS)}')
    cls = LAYERS[name]
    known = NESTED.get(cls) or [p for p in inspect.signature(cls).parameters]
    inferred = INFERRED.get(cls, (None, 0))
    known = [p for p in known if p != inferred[0]]
    for option in options:
        if option not in known:
            hint = nearest(option, known) if known else ", nor any other"
            raise UsageError(f'{where}: {name} has no option "{option}"{hint}')
    if cls in SEE_PICTURES and len(shape) != 3:
        raise UsageError(f"{where}: {name} needs pictures, but its input is {_size(shape)} numbers")
    if cls in NESTED:
        return _nested(cls, options, shape, kernel, where)
    if inferred[0]:
        options[inferred[0]] = (1, *shape)[inferred[1]]
    if "kernel" in inspect.signature(cls).parameters:
        options.setdefault("kernel", kernel)
    for option, value in options.items():
        _check_type(value, inspect.signature(cls).parameters[option].annotation, f"{where}.{option}")
    try:
        layer = cls(**options)
        # what comes out? asked of a copy without memory, so that any layer can tell
        with torch.device("meta"):
            y, _ = cls(**options).forward(torch.empty(2, *shape))
    except (ValueError, TypeError, RuntimeError) as e:
        reason = str(e).splitlines()[0]
        raise UsageError(f"{where}: {name} on an input of {_size(shape)}: {reason}") from None
    return layer, tuple(y.shape[1:])


def _nested(cls, options, shape, kernel, where):
    parts, ends = [], []
    for option in NESTED[cls]:
        if option in options:
            if not isinstance(options[option], (list, tuple)) or not options[option]:
                raise UsageError(f"{where}.{option}: expected a list of layers")
            part, end = build(options[option], shape, kernel, f"{where}.{option}")
            parts.append(part)
            ends.append(end)
    if NESTED[cls][0] not in options:
        raise UsageError(f"{where}: {cls.__name__} needs {NESTED[cls][0]}, a list of layers")
    if cls is Sequential:
        return parts[0], ends[0]
    around = ends[1] if len(ends) == 2 else shape
    if ends[0] != around:
        raise UsageError(f"{where}: body gives {_size(ends[0])}, the way around it {_size(around)}")
    return Residual(*parts), around


def _check_type(value, kind, where: str):
    number = type(value) in (int, float) and math.isfinite(value)
    wrong = {
        int: type(value) is not int,
        float: not number,
        float | None: not number,
        bool: type(value) is not bool,
        str: type(value) is not str,
    }
    if wrong.get(kind, False):
        raise UsageError(f"{where}: expected {getattr(kind, '__name__', 'float')}, got {value!r}")
    if kind is int and value < 1:
        raise UsageError(f"{where}: must be at least 1, got {value}")


def _size(shape) -> str:
    return " × ".join(map(str, shape))
