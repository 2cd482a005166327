"""Conversion to torch: a net as a torch.nn module, or its tensors under the names of its original module."""

from torch import Tensor, nn

from nets.layers.base import Layer
from nets.layers.to_module import to_module


def to_torch(layer: Layer) -> nn.Module:
    """The layer or net as a torch.nn module, with clones of its weights and buffers: see to_module."""
    return to_module(layer)


def torch_state(net: Layer) -> dict[str, Tensor]:
    """The tensors of a net that from_torch made, under the names of the module's own state_dict.

    ValueError if from_torch didn't make the net.
    """
    names = getattr(net, "torch_names", None)
    if names is None:
        raise ValueError("torch_state takes a net that from_torch made")
    return {names[name]: t for name, t in net.state_dict().items() if name in names}
