"""The torch module that a net was made from, as the oracle: autograd of what somebody else wrote."""

import copy

import torch
from torch import Tensor, nn

from nets.gradcheck.reference import Answer
from nets.gradcheck.report import Row
from nets.layers.dropout import SameDraws


def differentiate(net, module: nn.Module, x: Tensor, objective) -> Answer:
    """Autograd's answer for a copy of the module, under the net's names and in its mode."""
    module = copy.deepcopy(module).train(net.training).requires_grad_()
    for part in module.modules():
        if type(part) is nn.Dropout:
            part.__class__ = SameDraws
    x = x.detach().clone().requires_grad_()
    y = module(x.clone())  # it may write to what it gets
    params = dict(module.named_parameters(remove_duplicate=False))
    params = {name: params[net.torch_names[name]] for name in net.params}
    found = torch.autograd.grad(objective(y), [x, *params.values()])
    state = module.state_dict()
    buffers = {name: state[net.torch_names[name]] for name in net.buffers}
    return Answer(y.detach(), found[0], dict(zip(params, found[1:])), buffers, [])


def rows(net, module: nn.Module, x: Tensor, answer: Answer, seed: int) -> list[Row]:
    """The net's output and statistics after one forward, against the module's."""
    net = copy.deepcopy(net)
    torch.manual_seed(seed)
    y, _ = net.forward(x)
    name, depth = f"torch's {type(module).__name__}", len(net.leaves())
    pairs = {"output": (y, answer.y)} | {k: (net.buffers[k], t) for k, t in answer.buffers.items()}
    return [Row.of(name, what, a, b, x.dtype, x.numel(), depth) for what, (a, b) in pairs.items()]
