"""Gradients summed over the processes while backward still runs.

Backward passes on the gradients of a layer at a time, from the last layer to the first. They are copied
into flat vectors, and a vector is sent as soon as it is full, while the earlier layers still compute.
Source: Li et al. 2020, "PyTorch Distributed: experiences on accelerating data parallel training".
"""

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nets.training.world import World


class Bucket:
    """A flat vector with the gradients of some parameters, each at its place, in the dtype `wire`.

    flat is the sum in the parameters' own dtype: the same memory if that is the wire's.
    The length is a multiple of `parts`.
    """

    def __init__(self, params: dict[str, Tensor], parts: int = 1, wire: torch.dtype | None = None):
        self.shapes = {name: w.shape for name, w in params.items()}
        self.places, end = {}, 0
        for name, w in params.items():
            self.places[name] = slice(end, end + w.numel())
            end += w.numel()
        like = next(iter(params.values()))
        self.flat = torch.zeros(-(-end // parts) * parts, dtype=like.dtype, device=like.device)
        self.wire = self.flat.to(wire or like.dtype)
        self.given: set[str] = set()
        self.work: Any = None
        self.sent = False

    def put(self, name: str, g: Tensor):
        self.view(name, self.wire).copy_(g)
        self.given.add(name)

    def view(self, name: str, flat: Tensor | None = None) -> Tensor:
        """A parameter's part of the vector, in its shape."""
        return (self.flat if flat is None else flat)[self.places[name]].view(self.shapes[name])

    def clear(self):
        """Gradients that weren't given count as 0."""
        for name in self.places.keys() - self.given:
            self.view(name, self.wire).zero_()

    def wait(self):
        if self.work is not None:
            self.work.wait()
        self.given, self.work, self.sent = set(), None, False


class Reducer:
    """The sum of all ranks' gradients.

        reducer.along(value, …)                          small tensors to be summed too
        net.backward(saved, dz, on_grads=reducer.take)
        grads, (value, …) = reducer.finish()

    mb    millions of bytes in a bucket; a larger parameter has its own
    wire  the dtype to send them in, by default the parameters' own

    The next step overwrites what finish returns. All ranks must pass gradients of the same parameters;
    those of frozen parameters are left out.
    """

    def __init__(self, params: dict[str, Tensor], world: World, mb=4.0, wire: torch.dtype | None = None):
        self.params, self.world = params, world
        self.buckets = [Bucket(some, world.size, wire) for some in _filled(params, mb * 1e6, wire)]
        self.of = {name: bucket for bucket in self.buckets for name in bucket.places}
        self.small: tuple[Tensor, ...] = ()
        self.packed: Tensor | None = None
        self.packed_work: Any = None

    def along(self, *tensors: Tensor):
        """Sum these too, in float64. They are sent at once, as nothing else is sent before backward."""
        self.small = tensors
        self.packed = torch.cat([t.reshape(-1).double() for t in tensors])
        self.packed_work = self._start(dist.all_reduce, self.packed)

    def take(self, grads: dict[str, Tensor]):
        """A layer's gradients, as Sequential.backward passes them to on_grads."""
        for name, g in grads.items():
            bucket = self.of[name]
            bucket.put(name, g)
            if len(bucket.given) == len(bucket.places):
                self._send(bucket)

    def finish(self) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """The summed gradients that were given, by name, and the summed small tensors."""
        grads = {}
        for bucket in self.buckets:
            if bucket.given and not bucket.sent:
                bucket.clear()
                self._send(bucket)
        for bucket in self.buckets:
            given = [name for name in bucket.places if name in bucket.given]
            bucket.wait()
            if given:
                grads |= self._received(bucket, given)
        return grads, self._unpacked()

    def _send(self, bucket: Bucket):
        bucket.work, bucket.sent = self._start(dist.all_reduce, bucket.wire), True

    def _received(self, bucket: Bucket, given) -> dict[str, Tensor]:
        if bucket.wire is not bucket.flat:
            bucket.flat.copy_(bucket.wire)
        return {name: bucket.view(name) for name in given}

    def _start(self, collective, *tensors: Tensor):
        return collective(*tensors, async_op=True) if self.world.size > 1 else None

    def _unpacked(self) -> tuple[Tensor, ...]:
        if self.packed is None:
            return ()
        if self.packed_work is not None:
            self.packed_work.wait()
        parts = self.packed.split([t.numel() for t in self.small])
        sums = tuple(p.view(t.shape).to(t.dtype) for p, t in zip(parts, self.small))
        self.small, self.packed, self.packed_work = (), None, None
        return sums


def _filled(params: dict[str, Tensor], most: float, wire: torch.dtype | None):
    """The parameters in the order of backward, in groups of at most `most` bytes."""
    some, dtype, left = {}, None, most
    for name, w in reversed(params.items()):
        size = math.prod(w.shape) * (wire or w.dtype).itemsize
        if some and (size > left or w.dtype != dtype):
            yield some
            some, left = {}, most
        some[name], dtype = w, w.dtype
        left -= size
    if some:
        yield some
