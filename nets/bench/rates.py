"""Rates: GFLOP/s of each convolution's three products, by this project's kernels and by the library's.

Work is counted by the definition of a convolution, not by the multiplications that a kernel does.
"""

import time
from statistics import median

import torch
from torch.nn.functional import conv2d, conv_transpose2d

from nets.common.table import grid, number
from nets.data import datasets as data
from nets.gradcheck.trace import Trace
from nets.kernels import native
from nets.layers.conv import Conv2d
from nets.training import config
from nets.training.make import make_net

HEADS = ["convolution", "at", "forward", "the library's", "dx", "the library's", "dw", "the library's"]


def rate(work: float, product, times: int) -> str:
    """GFLOP/s: the median of some, after one to get warm."""
    product()
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - begin)
    return number(work / median(seconds) / 1e9)


def rows(conf: config.Config, batch: int, times: int):
    """Yield a line of the table for every 3 × 3 convolution that native kernels serve."""
    shape, outputs = data.shapes(conf.data)
    net, dtype = make_net(conf, shape, outputs), getattr(torch, conf.train.dtype)
    with Trace(net) as trace:  # what size of picture does each see?
        y, saved = net.forward(torch.randn(2, *shape))
        net.backward(saved, torch.zeros_like(y))
    for call in reversed(trace.calls):
        layer = call.layer
        if not isinstance(layer, Conv2d) or not layer.in_native(call.x.to(dtype)):
            continue
        x, dy = (
            torch.randn(batch, *t.shape[1:]).to(dtype).contiguous(memory_format=torch.channels_last)
            for t in (call.x, call.y)
        )
        weight = layer.params["weight"]
        w = weight.to(dtype)
        (o, c), (h, width) = w.shape[:2], x.shape[2:]
        work = 2 * 9 * x.numel() * o
        layer.input_grad = False  # of the library's kernel, dw alone
        yield [
            f"{c} → {o}",
            f"{h} × {width}",
            rate(work, lambda: native.conv(x, weight, None), times),
            rate(work, lambda: conv2d(x, w, None, 1, 1), times),
            rate(work, lambda: native.conv_input_gradient(dy, weight), times),
            rate(work, lambda: conv_transpose2d(dy, w, None, 1, 1), times),
            rate(work, lambda: native.conv_weight_gradient(x, dy), times),
            rate(work, lambda: layer.vendor_gradients(x, dy, w), times),
        ]


def table(conf: config.Config, batch: int, times: int) -> str:
    """The rates as text, a line for each convolution."""
    return grid([HEADS, *rows(conf, batch, times)])
