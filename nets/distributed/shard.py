"""Each process keeps a part of the momentum, and updates a part of the weights (ZeRO-1).

A bucket of gradients is summed so that each process gets only its part of the sum, 1/size of it. It holds
the momentum of this part and updates these weights; then all processes gather the updated weights. As much
is sent as for whole sums, which consist of the same two halves.
Source: Rajbhandari et al. 2019, "ZeRO: memory optimizations toward training trillion parameter models".
"""

import torch
from torch import Tensor

from nets.common.errors import CheckpointError
from nets.distributed.buckets import Bucket, Reducer
from nets.distributed.world import all_gather, reduce_scatter
from nets.optim.param_groups import group_of
from nets.optim.sgd import SGD
from nets.training.world import World


class Scatterer(Reducer):
    """A Reducer (see there) that returns only this rank's piece of every gradient, a vector.

    pieces  name -> this rank's piece of a parameter, a copy; parameters without one are left out
    places  name -> the piece's place in the parameter
    """

    def __init__(self, params: dict[str, Tensor], world: World, mb=4.0, wire: torch.dtype | None = None):
        super().__init__(params, world, mb, wire)
        self.sums = {bucket: self._part(bucket.wire) for bucket in self.buckets}
        self.updated = {bucket: self._part(bucket.flat) for bucket in self.buckets}
        self.places: dict[str, slice] = {}
        self.offsets: dict[str, slice] = {}  # a piece's place in this rank's part of the bucket
        for bucket in self.buckets:
            each = len(self.sums[bucket])
            begin = world.rank * each
            for name, place in bucket.places.items():
                a, b = max(place.start, begin), min(place.stop, begin + each)
                if a < b:
                    self.places[name] = slice(a - place.start, b - place.start)
                    self.offsets[name] = slice(a - begin, b - begin)
        self.pieces = {name: self.updated[self.of[name]][at] for name, at in self.offsets.items()}
        self.cut()

    def _part(self, flat: Tensor) -> Tensor:
        return flat.new_zeros(len(flat) // self.world.size)

    def cut(self):
        """Copy the pieces from the parameters, after something other than `give` changed these."""
        for name, piece in self.pieces.items():
            piece.copy_(self.params[name].reshape(-1)[self.places[name]])

    def give(self):
        """Send the pieces to all ranks: every rank's parameters are complete again."""
        for name, whole in self.whole(self.updated):
            self.params[name].copy_(whole)

    def whole(self, parts: dict[Bucket, Tensor]):
        """Yield (name, tensor), put together from all ranks' parts of each bucket.

        A tensor is a part of its bucket, valid until the bucket is used again.
        """
        works = [self._start(all_gather, bucket.flat, part) for bucket, part in parts.items()]
        for bucket, work in zip(parts, works):
            if work is None:
                bucket.flat.copy_(parts[bucket])
            else:
                work.wait()
            for name in bucket.places:
                yield name, bucket.view(name)

    def _send(self, bucket: Bucket):
        bucket.work, bucket.sent = self._start(reduce_scatter, self.sums[bucket], bucket.wire), True
        if bucket.work is None:
            self.sums[bucket].copy_(bucket.wire)

    def _received(self, bucket: Bucket, given) -> dict[str, Tensor]:
        sums = self.sums[bucket].to(bucket.flat.dtype)
        return {name: sums[self.offsets[name]] for name in given if name in self.offsets}


class ShardedSGD(SGD):
    """SGD on this rank's pieces: its formula is elementwise.

    scatterer  of the net's parameters; the rest as for SGD
    """

    layerwise = False
    sharded = True

    def __init__(self, scatterer: Scatterer, lr: float, momentum=0.0, *settings, param_groups=(), **more):
        super().__init__(scatterer.pieces, lr, momentum, *settings, param_groups=param_groups, **more)
        self.scatterer = scatterer
        names = scatterer.params
        self.moving = [name for name in names if group_of(name, param_groups).get("momentum", momentum)]

    def updated(self):
        self.scatterer.give()

    def state(self) -> dict[str, Tensor]:
        """As SGD's, for a checkpoint that any number of processes can resume from. All ranks must call it;
        the main one gets the state, on the CPU, the others an empty one."""
        s, parts = self.scatterer, {}
        for bucket in s.buckets:
            parts[bucket] = torch.zeros_like(s.updated[bucket])
            for name in bucket.places.keys() & self.velocity.keys():
                parts[bucket][s.offsets[name]] = self.velocity[name]
        found = {}
        for name, whole in s.whole(parts):
            if s.world.is_main and name in self.moving:
                found[f"velocity.{name}"] = whole.to("cpu", copy=True)
        return {key: found[key] for name in s.params if (key := f"velocity.{name}") in found}

    def load(self, state: dict[str, Tensor]):
        """Take this rank's pieces of a whole state, and of the parameters as they are now.

        CheckpointError if the state is another net's.
        """
        s = self.scatterer
        for name in self.moving:
            whole = state.get(f"velocity.{name}")
            if whole is None or whole.shape != s.params[name].shape:
                shape = tuple(s.params[name].shape)
                raise CheckpointError(f"velocity.{name}: missing, or of another shape than {shape}")
            if name in self.velocity:
                self.velocity[name].copy_(whole.reshape(-1)[s.places[name]])
        s.cut()
