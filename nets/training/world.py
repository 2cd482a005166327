"""The processes of a run. Here it is one process; nets/distributed has a World of many."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class World:
    """This process is number `rank` of `size`. Alone, each method returns its argument unchanged.

    local_rank  its number on this machine
    device      where its tensors are
    store       key-value store that all processes share, None for one process
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    store: Any = None

    @property
    def is_main(self) -> bool:
        """Does this process write the files?"""
        return self.rank == 0

    def share(self, n: int, rank: int | None = None) -> slice:
        """Which of n consecutive items belong to this rank. Ranks' counts differ by at most one."""
        rank = self.rank if rank is None else rank
        return slice(rank * n // self.size, (rank + 1) * n // self.size)

    def count(self, n: int) -> int:
        """How many of n items belong to this rank."""
        mine = self.share(n)
        return mine.stop - mine.start

    def map_shares(self, f: Callable[[slice], Tensor], n: int) -> Tensor:
        """f(slice) returns a row for each of n samples. Each rank computes its share; all get all rows."""
        if n < self.size:
            return f(slice(0, n))  # too few to share
        return self.gather(f(self.share(n)), n)

    def differing(self, digest: str) -> list[int]:
        """The ranks whose digest, in hexadecimal, isn't rank 0's."""
        return []

    def sum(self, t: Tensor) -> Tensor:
        """The sum of all ranks' t, in place."""
        return t

    def all_true(self, ok: Tensor) -> Tensor:
        """Is ok (), a bool, true on every rank?"""
        return ok

    def max(self, *numbers: int) -> list[int]:
        """The largest of each number over all ranks. On the host: no device is waited for."""
        return [int(n) for n in numbers]

    def gather(self, rows: Tensor, n: int) -> Tensor:
        """All n rows in order, of which each rank passes its share: (share, …) -> (n, …)."""
        return rows

    def merge(self, values: Tensor, mine: Tensor) -> Tensor:
        """values (N), in place: each entry from the rank whose `mine` (N) is true there, at most one.

        Entries that are no rank's stay as they are.
        """
        return values

    def broadcast(self, tensors) -> None:
        """Every tensor becomes rank 0's, in place."""

    def barrier(self) -> None:
        """Wait until all ranks are here."""

    @contextlib.contextmanager
    def local_main_first(self) -> Iterator[None]:
        """One process on each machine runs the body first (a download), then the others."""
        yield

    def agreement(self) -> Callable[..., tuple[bool, ...] | None]:
        """agree(step, *flags, now=False): for each flag whether any rank has set it, None between agreements.

        All ranks must act at the same step on a signal or a clock. One process agrees at every step.
        """
        return lambda step, *flags, now=False: tuple(map(bool, flags))

    def prepare(self, config, net, loss, batch: int, make_optimizer: Callable[[], Any]) -> tuple[Any, Any]:
        """(optimizer, backward for train_step) of a net that all ranks train with batches of `batch` samples.

        May replace layers of the net. backward is None for one process.
        """
        return make_optimizer(), None
