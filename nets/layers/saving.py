"""A net's parameters and buffers in a file, by name."""

from pathlib import Path
from typing import TypeVar

from nets.common import tensorfile
from nets.common.errors import CheckpointError
from nets.layers.base import Layer

AnyLayer = TypeVar("AnyLayer", bound=Layer)


def save(net: Layer, path: str | Path):
    """Save the tensors of net.state_dict() as safetensors with a checksum, whole or not at all.

    OSError where the file can't be written.
    """
    tensorfile.save(Path(path), net.state_dict(), {"net": type(net).__name__})


def load(net: AnyLayer, path: str | Path) -> AnyLayer:
    """Copy the tensors of a file that `save` wrote into net, and return net.

    CheckpointError where the file is damaged, or names the first tensor that doesn't fit.
    """
    state, _ = tensorfile.read(Path(path))
    try:
        return net.load_state_dict(state)
    except CheckpointError as e:
        raise CheckpointError(f"{path}: {e}") from None
