"""Summary: a table of a net's layers with their output, parameters, multiplications and saved bytes."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from nets.data import datasets as data
from nets.layers.containers import Net
from nets.report.tables import grid
from nets.training import config
from nets.training.make import make_net


@dataclass
class Line:
    """One call of a layer in a net. All numbers but `parameters` are for the whole batch."""

    name: str  # 0 (Conv2d)
    shape: tuple[int, ...]  # of its output, batch included
    parameters: int  # trained ones; 0 if an earlier line counts them
    products: int  # multiplications of a convolution or a matrix product in forward
    saved: int  # bytes kept for backward, without those that an earlier layer keeps


def lines(net, x: Tensor) -> list[Line]:
    """The net's layers in the order of forward, for a batch x, which may be on "meta"."""
    outputs, found, counted, kept = [], [], set(), set()

    def watch(layer):
        forward = layer.forward

        def watched(*xs):
            y, saved = forward(*xs)
            outputs.append(y)
            return y, saved

        layer.forward = watched

    leaves = [layer for layer in net.walk() if not isinstance(layer, Net)]
    for layer in leaves:
        watch(layer)
    try:
        saved = net.forward(x)[1]
    finally:
        for layer in leaves:
            del layer.forward
    own = {_storage(t) for t in (*net.params.values(), *net.buffers.values())}
    for (name, layer, part), y in zip(_calls(net, saved), outputs, strict=True):
        trained = {id(p): p.numel() for p in layer.params.values() if id(p) not in counted}
        counted |= trained.keys()
        stores = {
            _storage(t): t.untyped_storage().nbytes() for t in tree_leaves(part) if isinstance(t, Tensor)
        }
        saved_here = sum(n for place, n in stores.items() if place not in kept | own)
        kept |= stores.keys()
        found.append(Line(name, tuple(y.shape), sum(trained.values()), _products(layer, y), saved_here))
    return found


def _calls(layer, saved, path: str = "") -> Iterator[tuple]:
    """Yield (name, layer, what it saved) for every layer that isn't a net, in the order of forward."""
    if not isinstance(layer, Net):
        yield f"{path} ({type(layer).__name__})", layer, saved
        return
    for (child, inner), part in zip(layer.children.items(), saved, strict=True):
        yield from _calls(inner, part, f"{path}.{child}" if path else child)


def _storage(t: Tensor) -> int:
    return t.untyped_storage()._cdata


def _products(layer, y: Tensor) -> int:
    """Multiplications: each output is a sum over one row of the weight."""
    weight = (layer.params | layer.buffers).get("weight")
    return 0 if weight is None or weight.dim() < 2 else y.numel() * weight[0].numel()


def table(found: list[Line]) -> str:
    """The lines as text, with a line of totals."""
    table_rows: list[tuple[str, ...]] = [("layer", "output", "parameters", "multiplications", "saved bytes")]
    for line in found:
        numbers = (f"{n:,}" if n else "" for n in (line.parameters, line.products, line.saved))
        table_rows.append((line.name, " × ".join(map(str, line.shape)), *numbers))
    totals = (sum(getattr(line, k) for line in found) for k in ("parameters", "products", "saved"))
    table_rows.append(("all", "", *(f"{n:,}" for n in totals)))
    return grid(table_rows, left=(0, 1))


def empty_net(conf: config.Config):
    """A config's net in its own dtype on "meta", without memory for weights."""
    dtype = getattr(torch, conf.train.dtype)
    with torch.device("meta"):
        return make_net(conf, *data.shapes(conf.data)).to(torch.promote_types(dtype, torch.float32))


def of(conf: config.Config, batch: int = 1) -> list[Line]:
    """The lines of a config's net, computed on "meta": no memory for weights or images."""
    shape, _ = data.shapes(conf.data)
    net, dtype = empty_net(conf), getattr(torch, conf.train.dtype)
    with torch.device("meta"):
        x = torch.empty(batch, *shape, dtype=dtype)
        if len(shape) == 3 and conf.train.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        return lines(net, x)
