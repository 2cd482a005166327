"""Saving and loading a net's parameters and buffers by name."""

from pathlib import Path
from typing import TypeVar

from nets.common import tensorfile
from nets.common.files import expanded
from nets.layers.base import Layer

AnyLayer = TypeVar("AnyLayer", bound=Layer)


def save(net: Layer, path: str | Path):
    """Write the tensors of net.state_dict() to a safetensors file with a checksum.

    OSError if the file can't be written; an existing file is then unchanged.
    """
    tensorfile.save(expanded(path), net.state_dict(), {"net": type(net).__name__})


def load(net: AnyLayer, path: str | Path) -> AnyLayer:
    """Copy the tensors of a file from `save` into net, and return net.

    CheckpointError if the file is damaged, or if a tensor is missing, unknown or of another shape.
    """
    state, _ = tensorfile.read(expanded(path))
    tensorfile.check(net.state_dict(), state, f"{path}: ", any_dtype=True)
    return net.load_state_dict(state)
