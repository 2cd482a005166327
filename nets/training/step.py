"""The train step: forward, loss, backward, update, as one function of tensors."""

import torch
from torch import Tensor

from nets.layers.base import Layer
from nets.layers.containers import Sequential
from nets.optim.sgd import change
from nets.training.guard import Guard


def hits(z: Tensor, target: Tensor) -> Tensor:
    """How many rows of z (N, K) are right: by class (N), or within 0.1 of a wanted (N, K)."""
    if target.dim() == 1:
        return (z.argmax(1) == target).sum()
    return ((z - target).abs() < 0.1).all(1).sum()


def hold(net: Sequential, optimizer, names):
    """Take the parameters called `names` as constants: no update, and no backward for them alone."""
    net.freeze(names)
    optimizer.constants = set(names)


def train_step(net: Layer, loss, optimizer, weighted=False, guard: Guard | None = None, backward=None):
    """The step of a net: step(x, target, factor) -> (loss (), hits ()), both on x's device.

    No autograd, nothing read back to the host, parameters changed in place, so that
    `torch.compile(fullgraph=True)` and a CUDA graph can take it whole. factor, a tensor () or
    a number, multiplies the rate. The net's gradient for its input isn't asked for. A layer is
    updated as soon as backward has its gradients, which then needn't be kept, unless the optimizer,
    a guard or another `backward` wants all of them at once.

    weighted: step(x, target, factor, weight) counts each sample by its weight (B), and also gives
    what each has taught (B), the size of its gradient before that: see selective.py.
    guard: keeps a step that isn't finite from changing parameters, momentum and statistics; the
    step then gives `ok` () as well, after the hits.
    backward: of a batch that lies on several processes, see parallel/backward.py.
    """
    net.input_grad = False
    layerwise = isinstance(net, Sequential) and optimizer.layerwise and guard is None and backward is None
    if isinstance(net, Sequential):
        net.freeze()

    def step(x: Tensor, target: Tensor, factor, weight=None):
        statistics = list(net.buffers.values()) if guard else []
        before = [t.clone() for t in statistics]
        z, saved = net.forward(x)
        value, dz = loss(z, target)
        if backward:
            value, dz = backward.weigh(value, dz)
        told = (value, hits(z, target))
        lessons = dz.abs().sum(1, dtype=torch.float32) if weighted else None
        if weighted:
            dz = dz * weight[:, None].to(dz.dtype)
        if layerwise:
            net.backward(saved, dz, take=lambda grads: optimizer.step(grads, factor, value))
        else:
            if backward:
                grads, *told = backward(net, saved, dz, *told)
            else:
                grads = net.backward(saved, dz)[1]
            ok = guard.judge(told[0], grads) if guard else None
            optimizer.step(grads, factor, told[0], ok)
            for t, old in zip(statistics, before):
                change(t, old, ~ok)
            told = (*told, ok) if guard else tuple(told)
        return (*told, lessons) if weighted else told

    return step
