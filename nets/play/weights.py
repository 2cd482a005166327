"""A run's net as JSON, for the page: the layers, their options, and their tensors in base64."""

import base64
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nets.common.errors import CheckpointError, UsageError
from nets.layers.activations import ReLU, Sigmoid, Tanh
from nets.layers.base import Layer
from nets.layers.containers import Sequential
from nets.layers.conv import Conv2d
from nets.layers.dropout import Dropout
from nets.layers.linear import Flatten, Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import AvgPool2d, GlobalAvgPool, MaxPool2d

FORMAT = 1


class Exported(NamedTuple):
    """A net with what belongs to it. mean and std, of each channel, are on a scale of 0 to 1."""

    net: Sequential
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    mean: Tensor
    std: Tensor


def _windows(layer) -> dict[str, Any]:
    win = layer.windows
    return {"kernel": win.size, "stride": win.stride, "padding": win.padding, "dilation": win.dilation}


def _conv(params, o):
    outputs, inputs = params["weight"].shape[:2]
    return Conv2d(
        inputs * o["groups"], outputs, o["kernel"], o["stride"], o["padding"], o["dilation"], o["groups"],
        bias="bias" in params,
    )  # fmt: skip


# layer -> (its options for the page; the layer from its tensors and these options)
LAYERS = {
    Linear: (lambda _: {}, lambda p, o: Linear(*p["weight"].shape[::-1], bias="bias" in p)),
    Conv2d: (lambda layer: _windows(layer) | {"groups": layer.groups}, _conv),
    BatchNorm2d: (
        lambda layer: {"eps": layer.eps},
        lambda p, o: BatchNorm2d(len(p["running_mean"]), o["eps"], affine="weight" in p),
    ),
    MaxPool2d: (_windows, lambda p, o: MaxPool2d(o["kernel"], o["stride"], o["padding"], o["dilation"])),
    AvgPool2d: (_windows, lambda p, o: AvgPool2d(o["kernel"], o["stride"], o["padding"])),
    GlobalAvgPool: (lambda _: {}, lambda p, o: GlobalAvgPool()),
    Flatten: (lambda _: {}, lambda p, o: Flatten()),
    Dropout: (lambda layer: {"p": layer.p}, lambda p, o: Dropout(o["p"])),
    ReLU: (lambda _: {}, lambda p, o: ReLU()),
    Sigmoid: (lambda _: {}, lambda p, o: Sigmoid()),
    Tanh: (lambda _: {}, lambda p, o: Tanh()),
}


def to_json(exported: Exported, name: str) -> dict:
    """The net as a tree that JSON can hold: tensors as base64 of float32, little-endian.

    Sequentials inside are flattened. UsageError names a layer that the page doesn't have.
    """
    return {
        "format": FORMAT,
        "name": name,
        "classes": list(exported.classes),
        "shape": list(exported.shape),
        "mean": exported.mean.tolist(),
        "std": exported.std.tolist(),
        "layers": [_layer(layer, name) for layer in _flat(exported.net)],
    }


def _flat(net: Layer):
    if isinstance(net, Sequential):
        for child in net.children.values():
            yield from _flat(child)
    else:
        yield net


def _layer(layer: Layer, name: str) -> dict:
    if type(layer) not in LAYERS:
        known = ", ".join(cls.__name__ for cls in LAYERS)
        raise UsageError(f"{name}: the page has no {type(layer).__name__}; it has {known}")
    tensors = {key: _encode(t) for key, t in (layer.params | layer.buffers).items()}
    return {"type": type(layer).__name__, "options": LAYERS[type(layer)][0](layer), "tensors": tensors}


def _encode(t: Tensor) -> dict:
    raw = t.detach().cpu().numpy().astype("<f4").tobytes()
    return {"shape": list(t.shape), "float32": base64.b64encode(raw).decode()}


def _decode(about: dict) -> Tensor:
    raw = np.frombuffer(base64.b64decode(about["float32"]), "<f4")
    return torch.from_numpy(raw.astype(np.float32)).reshape(about["shape"])


def read(path: str | Path | None = None) -> Exported:
    """The net of a file from `nets export`, in evaluation mode; by default the digits net of the page.

    CheckpointError if the file is missing, damaged or of another format.
    """
    try:
        path = Path(__file__).with_name("digits.json") if path is None else Path(path)
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}, expected {FORMAT}")
        makers = {cls.__name__: make for cls, (_, make) in LAYERS.items()}
        layers = []
        for part in about["layers"]:
            tensors = {key: _decode(t) for key, t in part["tensors"].items()}
            layer = makers[part["type"]](tensors, part["options"])
            layers.append(layer.load_state_dict(tensors))
        mean, std = (torch.tensor(about[k], dtype=torch.float32) for k in ("mean", "std"))
        net = Sequential(*layers).eval()
        return Exported(net, tuple(about["classes"]), tuple(about["shape"]), mean, std)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as e:
        raise CheckpointError(f"{path}: not a net of nets export, or damaged ({e})") from None
