"""Conversion from and to torch.nn modules, and published weights of torchvision's models.

from_torch(module)   a torch.nn module as a layer or net, with the same weights
to_torch(layer)      a layer or net as a torch.nn module, with the same weights
torch_state(net)     the tensors of a net from from_torch, under the names of its module's state_dict
"""

from nets.convert.from_torch import from_torch
from nets.convert.to_torch import to_torch, torch_state

__all__ = ["from_torch", "to_torch", "torch_state"]
