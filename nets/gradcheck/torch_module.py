"""The torch module that from_torch made a net from, as the oracle.

Autograd then differentiates code that is independent of this project.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nets.gradcheck.reference import Answer
from nets.gradcheck.report import Row
from nets.layers.base import Layer
from nets.layers.dropout import SameDraws


def differentiate(net: Layer, module: nn.Module, x: Tensor, objective: Callable[[Tensor], Tensor]) -> Answer:
    """Autograd's gradients of a copy of the module, in the net's mode and under the net's names.

    objective: function of y that returns a scalar.
    """
    module = copy.deepcopy(module).train(net.training).requires_grad_()
    for part in module.modules():
        if type(part) is nn.Dropout:
            part.__class__ = SameDraws
    x = x.detach().clone().requires_grad_()
    y = module(x.clone())  # a copy, because the module may write to its input
    params = dict(module.named_parameters(remove_duplicate=False))
    params = {name: params[net.torch_names[name]] for name in net.params}
    found = torch.autograd.grad(objective(y), [x, *params.values()])
    state = module.state_dict()
    buffers = {name: state[net.torch_names[name]] for name in net.buffers if name in net.torch_names}
    return Answer(y.detach(), found[0], dict(zip(params, found[1:])), buffers, [])


def module_rows(net: Layer, module: nn.Module, x: Tensor, answer: Answer) -> list[Row]:
    """The net's output and buffers after one forward, compared with the module's."""
    net = copy.deepcopy(net)
    y, _ = net.forward(x)
    name, depth = f"torch's {type(module).__name__}", len(net.leaves())
    pairs = {"output": (y, answer.y)} | {k: (net.buffers[k], t) for k, t in answer.buffers.items()}
    return [Row.of(name, tensor, a, b, x.dtype, x.numel(), depth) for tensor, (a, b) in pairs.items()]
