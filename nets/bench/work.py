"""The least work of a step, computed from the net's shapes, and the machine's best rate."""

import copy

import torch
from torch import Tensor

from nets.bench.forms import now
from nets.common.device import keep_freed_memory
from nets.layers.containers import Net


def useful_flops(net, x: Tensor) -> int:
    """Two for every multiplication of the step's convolutions and matrix products.

    An output takes as many multiplications as a row of the weight has entries. The gradient of the
    weight, where it is trained, takes as many in all, and so does dx, where it is needed. Counted
    from the shapes, once: a kernel that performs more gets no credit for it.
    """
    total = 0
    for layer, layer_x, y in _calls(net, x):
        weight = (layer.params | layer.buffers).get("weight")
        if weight is not None and weight.dim() > 1:
            times = 1 + ("weight" in layer.params) + layer_x.requires_grad
            total += 2 * y.numel() * weight[0].numel() * times
    return total


def fewest_bytes(net, x: Tensor, momentum: bool) -> int:
    """Bytes between memory and processor if every tensor moves once each time that it is needed.

    An elementwise layer is computed on the way and moves nothing. Any other layer, from x
    to y:

        forward   reads x, writes y
        backward  reads dy, writes dx where it is needed, and reads x again if its gradients depend
                  on x, which it then saves

    A parameter is read in forward, read in backward, and read and written by the update. Its
    gradient is written and read, and so is its momentum. Fused layers, which write nothing in
    between, can move less.
    """
    total = (8 if momentum else 6) * sum(p.nbytes for p in net.params.values())
    for layer, layer_x, y in _calls(net, x):
        if not layer.elementwise:
            reads = 1 + layer_x.requires_grad + layer.saves_input()
            total += layer_x.nbytes * reads + 2 * y.nbytes
    return total


def _calls(net, x: Tensor) -> list[tuple]:
    """(layer, x, y) of every layer call in the net, on "meta", so without memory.

    x.requires_grad says whether dx is needed, which is so if an earlier layer is trained.
    """
    net, found = copy.deepcopy(net).to("meta"), []
    for p in net.params.values():
        p.requires_grad_()

    def watch(layer):
        forward = layer.forward

        def watched(*xs):
            with torch.no_grad():  # a layer may write in place where autograd forbids it
                y, saved = forward(*xs)
            trained = any(p.requires_grad for p in layer.params.values())
            y = y.detach().requires_grad_(trained or any(x.requires_grad for x in xs))
            found.append((layer, xs[0], y))
            return y, saved

        layer.forward = watched

    for layer in net.walk():
        if not isinstance(layer, Net):
            watch(layer)
    net.forward(x.to("meta"))
    return found


class PeakRate:
    """The best rate of this machine, in FLOP/s: the fastest of matrix products and a convolution."""

    name = "peak"

    def __init__(self, device: torch.device, dtype: torch.dtype):
        if device.type == "cpu":
            keep_freed_memory()
        self.device, self.best = device, 0.0
        large = device.type == "cuda"
        self.products = []  # (FLOP, function)
        for n in (4096, 8192) if large else (1024, 2048):
            a, b, out = (torch.randn(n, n, device=device).to(dtype) for _ in range(3))
            self.products.append((2 * n**3, lambda a=a, b=b, out=out: torch.mm(a, b, out=out)))
        n, c, side = (512 if large else 32), 256, 16
        x = torch.randn(n, c, side, side, device=device).to(dtype, memory_format=torch.channels_last)
        w = torch.randn(c, c, 3, 3, device=device).to(dtype, memory_format=torch.channels_last)
        flops = 2 * n * c * c * 9 * side * side
        self.products.append((flops, lambda: torch.nn.functional.conv2d(x, w, padding=1)))

    def turn(self) -> float:
        """Time each product three more times; the best rate so far."""
        for flops, product in self.products:
            product()
            for _ in range(3):
                begin = now(self.device)
                product()
                self.best = max(self.best, flops / (now(self.device) - begin))
        return self.best
