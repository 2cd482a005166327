"""What a step has to do at least, told from the net's shapes, and the best rate of the machine."""

import copy

import torch
from torch import Tensor

from nets.bench.forms import now
from nets.common.device import keep_freed_memory
from nets.layers import activations, conv, dropout, linear, norm, response_norm, whiten
from nets.layers.base import Net

# one number in, one number out: done while a neighbour reads or writes
FREE = (
    activations.Sigmoid, activations.Tanh, activations.ReLU, activations.GELU, activations.SiLU,
    activations.Scale, dropout.Dropout, linear.Flatten,
)  # fmt: skip
PRODUCTS = (conv.Conv2d, whiten.Whiten2d, linear.Linear)
READ_AGAIN = (
    conv.Conv2d,
    linear.Linear,
    norm.BatchNorm2d,
    response_norm.LocalResponseNorm,
)  # their gradients are made of x, too


def useful_flops(net, x: Tensor) -> int:
    """Two for every multiplication of the step's convolutions and matrix products.

    Each output takes as many as one row of the weights is long, and so, all in all, do the gradient
    of the weights, where they are trained, and that of the input, where it is wanted. From the
    shapes alone, once: whoever does more, or does it twice, isn't credited with it.
    """
    total = 0
    for layer, x, y in _places(net, x):
        if isinstance(layer, PRODUCTS):
            weight = layer.params.get("weight", layer.buffers.get("weight"))
            times = 1 + ("weight" in layer.params) + x.requires_grad
            total += 2 * y.numel() * weight[0].numel() * times
    return total


def fewest_bytes(net, x: Tensor, momentum: bool) -> int:
    """Bytes between memory and processor if every tensor moves once each time that it's needed.

    A layer that gives one number for one number (FREE) is done on the way, and moves nothing.
    Any other, from x to y:

        forward   reads x, writes y
        backward  reads dy, writes dx where it is wanted, and reads x again where it makes a
                  gradient of it (READ_AGAIN)

    and a parameter is read forward, read backward, read and written by the update; its gradient
    is written and read, its momentum read and written. Layers that are done as one, with nothing
    written between them, can stay below that.
    """
    total = (8 if momentum else 6) * sum(p.nbytes for p in net.params.values())
    for layer, x, y in _places(net, x):
        if not isinstance(layer, FREE):
            total += x.nbytes * (1 + x.requires_grad + isinstance(layer, READ_AGAIN)) + 2 * y.nbytes
    return total


def _places(net, x: Tensor) -> list[tuple]:
    """(layer, x, y) of every place in the net, shapes without memory; requires_grad where dx is wanted.

    That is where something before is trained, which the flag tells.
    """
    net, found = copy.deepcopy(net).to("meta"), []
    for p in net.params.values():
        p.requires_grad_()

    def watch(layer):
        forward = layer.forward

        def watched(x):
            with torch.no_grad():  # a layer may write where autograd would have it not
                y, saved = forward(x)
            trained = any(p.requires_grad for p in layer.params.values())
            y = y.detach().requires_grad_(x.requires_grad or trained)
            found.append((layer, x, y))
            return y, saved

        layer.forward = watched

    for layer in net.walk():
        if not isinstance(layer, Net):
            watch(layer)
    net.forward(x.to("meta"))
    return found


class Peak:
    """The best rate of this machine, in FLOP/s: of matrix products and of a convolution."""

    name = "peak"

    def __init__(self, device: torch.device, dtype: torch.dtype):
        if device.type == "cpu":
            keep_freed_memory()
        self.device, self.best = device, 0.0
        large = device.type == "cuda"
        self.tries = []
        for n in (4096, 8192) if large else (1024, 2048):
            a, b, out = (torch.randn(n, n, device=device).to(dtype) for _ in range(3))
            self.tries.append((2 * n**3, lambda a=a, b=b, out=out: torch.mm(a, b, out=out)))
        n, c, side = (512 if large else 32), 256, 16
        x = torch.randn(n, c, side, side, device=device).to(dtype, memory_format=torch.channels_last)
        w = torch.randn(c, c, 3, 3, device=device).to(dtype, memory_format=torch.channels_last)
        flops = 2 * n * c * c * 9 * side * side
        self.tries.append((flops, lambda: torch.nn.functional.conv2d(x, w, padding=1)))

    def turn(self) -> float:
        """Try again; the best so far."""
        for flops, attempt in self.tries:
            attempt()
            for _ in range(3):
                begin = now(self.device)
                attempt()
                self.best = max(self.best, flops / (now(self.device) - begin))
        return self.best
