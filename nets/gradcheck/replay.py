"""What moves in a forward, random numbers and buffers, is set back, so that a forward can be repeated."""

import contextlib
import random
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nets.common.device import generator_state
from nets.gradcheck.replica import parts
from nets.layers.base import Layer


class Replay:
    """The state that the forward of a layer draws from and moves.

    These are torch's, numpy's and Python's random numbers, the generators that the layer holds, and the
    buffers of all layers inside. state() returns it, and restore(state) sets it.
    """

    def __init__(self, layer: Any, device: torch.device):
        self.device, self.numpy = device, sys.modules.get("numpy")
        kinds: tuple = (torch.Generator, random.Random)
        if self.numpy:
            kinds += (self.numpy.random.Generator, self.numpy.random.RandomState)
        held = list(parts(layer))
        self.generators = [part for part in held if isinstance(part, kinds)]
        self.layers = [part for part in held if isinstance(part, Layer) and part.is_leaf()]

    def state(self) -> tuple:
        """Copies of all of it."""
        shared = (generator_state(self.device), random.getstate())
        numpys = self.numpy.random.get_state() if self.numpy else None
        buffers = [{k: v.clone() for k, v in layer.buffers.items()} for layer in self.layers]
        return (*shared, numpys, [_get(g) for g in self.generators], buffers)

    def restore(self, state: tuple, buffers: bool = True):
        """Set all of it to an earlier state. buffers=False: only the random numbers."""
        generator_state(self.device, state[0])
        random.setstate(state[1])
        if self.numpy:
            self.numpy.random.set_state(state[2])
        for generator, earlier in zip(self.generators, state[3]):
            _set(generator, earlier)
        for layer, earlier in zip(self.layers, state[4]) if buffers else ():
            for name, t in earlier.items():
                _put(layer.buffers, name, t)


def _put(buffers: dict[str, Tensor], name: str, t: Tensor):
    if name in buffers and buffers[name].shape == t.shape:
        buffers[name].copy_(t)
    else:
        buffers[name] = t.clone()


def _get(generator: Any) -> Any:
    if hasattr(generator, "bit_generator"):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def _set(generator: Any, state: Any):
    if hasattr(generator, "bit_generator"):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)


@contextlib.contextmanager
def seeded(device: torch.device, seed: int):
    """All shared random numbers begin at a seed, and are left as they were before."""
    replay = Replay(None, device)
    before = replay.state()
    reseed(seed)
    try:
        yield
    finally:
        replay.restore(before)


def reseed(seed: int):
    """Set torch's, numpy's and Python's random numbers to those of a seed."""
    torch.manual_seed(seed)
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)


def random_dys(ys: Sequence[Tensor], seed: int) -> list[Tensor]:
    """Random gradients at outputs; 0 where an output is infinite or NaN, and has no slope."""
    reseed(seed)
    return [torch.where(y.isfinite(), torch.randn_like(y), 0) for y in ys]
