"""From a config's list of layers to a net: sizes that follow from the input are filled in."""

import importlib
import inspect
import math
import os
import sys
from typing import Any

import torch

from nets.common.errors import UsageError, describe, first_line, nearest
from nets.layers import LAYERS
from nets.layers.base import Layer
from nets.layers.containers import Residual, Sequential
from nets.layers.graph import Graph
from nets.training.renamed import RENAMED_OPTIONS


def build(layers, shape: tuple[int, ...], recompute: bool = False, where: str = "net.layers"):
    """The net of a config's `layers`, for one sample of `shape`; initial values from torch's seed.

    Returns (Sequential, shape of one output sample). UsageError names the layer and the reason.
    """
    built = []
    for i, spec in enumerate(layers):
        layer, shape = _layer(spec, shape, recompute, f"{where}[{i}]")
        built.append(layer)
    return Sequential(*built, recompute=recompute), shape


def layer_class(name: str, where: str) -> type[Layer]:
    """The layer called `name`, or a class of one's own, "module:Class". UsageError where there is none."""
    if ":" not in name:
        if name not in LAYERS:
            raise UsageError(f'{where}: no layer is called "{name}"{nearest(name, LAYERS)}')
        return LAYERS[name]
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except Exception as e:  # the module is the user's: whatever it raises is one line
        raise UsageError(f"{where}: {name}: {describe(e)}") from None
    if not (inspect.isclass(cls) and issubclass(cls, Layer)):
        raise UsageError(f"{where}: {name} is no subclass of nets.Layer")
    return cls


def _layer(spec, shape, recompute, where) -> tuple[Layer, tuple[int, ...]]:
    if isinstance(spec, str):
        spec = {"type": spec}
    if not isinstance(spec, dict) or not isinstance(spec.get("type"), str):
        raise UsageError(f'{where}: a layer is a name or a table such as {{ type = "ReLU" }}')
    options: dict[str, Any] = dict(spec)
    name = options.pop("type")
    cls = layer_class(name, where)
    known = [p for p in cls.nested or inspect.signature(cls).parameters if p not in cls.inferred]
    for option in options:
        if option not in known:
            raise UsageError(f"{where}: {_unknown_option(name, option, known)}")
    if cls.num_inputs != 1 and not cls.nested:
        raise UsageError(f"{where}: {name} takes several inputs, and a layer of a config has one")
    if cls.takes_images and len(shape) != 3:
        raise UsageError(f"{where}: {name} needs images, but its input is {_size(shape)} numbers")
    if cls.nested:
        return _nested(cls, options, shape, recompute, where)
    for option, axis in cls.inferred.items():
        options[option] = (1, *shape)[axis]
    for option, value in options.items():
        kind = inspect.signature(cls).parameters[option].annotation
        _check_type(value, kind, f"{where}.{option}", positive=":" not in name)
    try:
        layer = cls(**options)
        # the shape of its output, from a copy without memory
        with torch.device("meta"):
            y, _ = cls(**options).forward(torch.empty(2, *shape))
    except Exception as e:  # a layer of one's own raises anything
        reason = describe(e) if ":" in name else first_line(e)
        raise UsageError(f"{where}: {name} on an input of {_size(shape)}: {reason}") from None
    return layer, tuple(y.shape[1:])


def _unknown_option(name: str, option: str, known: list[str]) -> str:
    new = RENAMED_OPTIONS.get((name, option))
    if new:
        return f"{name}.{option}: renamed to {new}"
    hint = nearest(option, known) if known else ", nor any other"
    return f'{name} has no option "{option}"{hint}'


def _nested(cls, options, shape, recompute, where):
    if cls is Graph:
        raise UsageError(f"{where}: a config has no Graph; write a function that returns it, in Python")
    if cls not in (Sequential, Residual):
        raise UsageError(f"{where}: a class of one's own can't have layers inside; write it as a layer")
    parts, ends = [], []
    for option in cls.nested:
        if option in options:
            if not isinstance(options[option], (list, tuple)) or not options[option]:
                raise UsageError(f"{where}.{option}: expected a list of layers")
            part, end = build(options[option], shape, recompute, f"{where}.{option}")
            parts.append(part)
            ends.append(end)
    if cls.nested[0] not in options:
        raise UsageError(f"{where}: {cls.__name__} needs {cls.nested[0]}, a list of layers")
    if cls is Sequential:
        return parts[0], ends[0]
    around = ends[1] if len(ends) == 2 else shape
    if ends[0] != around:
        raise UsageError(f"{where}: body gives {_size(ends[0])}, the shortcut {_size(around)}")
    return Residual(*parts), around


def _check_type(value, kind, where: str, positive: bool = True):
    """positive: whole numbers are sizes, of at least 1. A class of one's own checks its options itself."""
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
    if kind is int and positive and value < 1:
        raise UsageError(f"{where}: must be at least 1, got {value}")


def _size(shape) -> str:
    return " × ".join(map(str, shape))
