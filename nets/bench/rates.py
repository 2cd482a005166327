"""Rates: GFLOP/s of each convolution's three products, by native kernels and by the library's.

The operations are those of a convolution's definition, however many a kernel performs.
"""

import time
from collections.abc import Callable, Iterator
from statistics import median

import torch
from torch.nn.functional import conv2d, conv_transpose2d

from nets.data import datasets as data
from nets.gradcheck.trace import Call, Trace
from nets.kernels import native
from nets.kernels.native_forms import NativeConv2d
from nets.kernels.registry import Target
from nets.kernels.torch_forms import TorchConv2d
from nets.layers.conv import Conv2d
from nets.report.tables import grid, number
from nets.training import config
from nets.training.make import make_net

HEADS = ["convolution", "at", "forward", "the library's", "dx", "the library's", "dw", "the library's"]


def table(conf: config.Config, batch: int, times: int) -> str:
    """The table as text: the median rates of `times` calls on a batch of images."""
    return grid([HEADS, *_rows(conf, batch, times)])


def _rows(conf: config.Config, batch: int, times: int) -> Iterator[list[str]]:
    """Yield a row of the table for every 3 × 3 convolution that native kernels support."""
    shape, outputs = data.shapes(conf.data)
    net, dtype = make_net(conf, shape, outputs), getattr(torch, conf.train.dtype)
    with Trace(net) as trace:  # gives the image size that each layer sees
        y, saved = net.forward(torch.randn(2, *shape))
        net.backward(saved, torch.zeros_like(y))
    for call in reversed(trace.calls):
        if isinstance(call.layer, Conv2d) and NativeConv2d.count([call.layer], Target(call.x.device, dtype)):
            yield _row(call.layer, call, batch, dtype, times)


def _row(layer: Conv2d, call: Call, batch: int, dtype: torch.dtype, times: int) -> list[str]:
    x, dy = (
        torch.randn(batch, *t.shape[1:]).to(dtype).contiguous(memory_format=torch.channels_last)
        for t in (call.x, call.y)
    )
    weight = layer.params["weight"]
    w = weight.to(dtype)
    (o, c), (h, width) = w.shape[:2], x.shape[2:]
    flops = 2 * 9 * x.numel() * o
    library = TorchConv2d(layer)
    return [
        f"{c} → {o}",
        f"{h} × {width}",
        _rate(flops, lambda: native.conv(x, weight, None), times),
        _rate(flops, lambda: conv2d(x, w, None, 1, 1), times),
        _rate(flops, lambda: native.conv_input_gradient(dy, weight), times),
        _rate(flops, lambda: conv_transpose2d(dy, w, None, 1, 1), times),
        _rate(flops, lambda: native.conv_weight_gradient(x, dy), times),
        _rate(flops, lambda: library.backward(x, dy, input_grad=False), times),
    ]


def _rate(flops: float, product: Callable, times: int) -> str:
    """GFLOP/s: the median of `times` calls, after one call to warm up."""
    product()
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - begin)
    return number(flops / median(seconds) / 1e9)
