"""Rates: how fast each convolution's three products run, by whose kernel; nets bench.rates.

Work counts as the definition of a convolution has it, whatever a kernel really multiplies.
"""

import time
from statistics import median

import torch
from torch.nn.functional import conv2d, conv_transpose2d

from nets.bench.report import grid, number
from nets.commands import cli
from nets.common.device import keep_memory
from nets.data import datasets as data
from nets.gradcheck.trace import Trace
from nets.kernels import native
from nets.kernels.fused import NativeConv2d
from nets.kernels.library import TorchConv2d
from nets.kernels.registry import Target
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
        if not NativeConv2d.count([layer], Target(call.x.device, dtype)):
            continue
        library = TorchConv2d(layer)
        x, dy = (
            torch.randn(batch, *t.shape[1:]).to(dtype).contiguous(memory_format=torch.channels_last)
            for t in (call.x, call.y)
        )
        weight = layer.params["weight"]
        w = weight.to(dtype)
        (o, c), (h, width) = w.shape[:2], x.shape[2:]
        work = 2 * 9 * x.numel() * o
        yield [
            f"{c} → {o}",
            f"{h} × {width}",
            rate(work, lambda: native.conv(x, weight, None), times),
            rate(work, lambda: conv2d(x, w, None, 1, 1), times),
            rate(work, lambda: native.conv_input_gradient(dy, weight), times),
            rate(work, lambda: conv_transpose2d(dy, w, None, 1, 1), times),
            rate(work, lambda: native.conv_weight_gradient(x, dy), times),
            rate(work, lambda: library.backward(x, dy, input_grad=False), times),
        ]


def main():
    parser = cli.parser("GFLOP/s of each 3 × 3 convolution of a config, on this machine's CPU.")
    parser.add_argument("config", nargs="?", default="configs/cifar10.toml", metavar="CONFIG")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=v", help="override a key")
    parser.add_argument("--batch", type=int, default=500, help="pictures; default: %(default)s")
    parser.add_argument(
        "--times", type=int, default=5, help="of which the median is taken; default: %(default)s"
    )
    args = parser.parse_args()
    keep_memory()
    conf = config.load(args.config, args.set)
    print(grid([HEADS, *rows(conf, args.batch, args.times)]))


if __name__ == "__main__":
    with cli.one_line_errors():
        main()
