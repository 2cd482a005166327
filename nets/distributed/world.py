"""The processes of a run: which of how many this is, and what they can do together."""

import contextlib
import os
import signal
import threading
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from nets.common.device import select_device
from nets.common.errors import UsageError

TIMEOUT = timedelta(minutes=30)  # rank 0 may be long at a checkpoint or a figure; a death is seen by alive.py
# torch 2.14 renamed them, and warns of the old names
all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


@dataclass(frozen=True)
class World:
    """This process is number `rank` of `size`. Alone, each method gives back what it was given.

    local_rank  its number on this machine; device: where its tensors are
    store       words that all processes can read and write, None where there is but one
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device = torch.device("cpu")
    store: dist.Store | None = None

    @property
    def first(self) -> bool:
        """Is this the one that writes?"""
        return self.rank == 0

    def share(self, n: int, rank: int | None = None) -> slice:
        """Which of n things in a row are this rank's: no two ranks' counts differ by more than one."""
        rank = self.rank if rank is None else rank
        return slice(rank * n // self.size, (rank + 1) * n // self.size)

    def sum(self, t: Tensor) -> Tensor:
        """The sum of all ranks' t, in place."""
        if self.size > 1:
            dist.all_reduce(t)
        return t

    def every(self, ok: Tensor) -> Tensor:
        """Is ok (), a bool, true on every rank?"""
        return self.sum((~ok).to(torch.int32)) == 0

    def most(self, *numbers: int) -> list[int]:
        """Each number's largest on any rank. On the host: no device is waited for."""
        t = torch.tensor(numbers)
        if self.size > 1:
            dist.all_reduce(t, dist.ReduceOp.MAX)
        return t.tolist()

    def gather(self, rows: Tensor, n: int) -> Tensor:
        """All n rows, in order, of which each rank gives its share: (share, …) -> (n, …)."""
        if self.size == 1:
            return rows
        each = -(-n // self.size)
        padded = rows.new_zeros(each, *rows.shape[1:])  # all ranks send alike
        padded[: len(rows)] = rows
        found = rows.new_empty(self.size * each, *rows.shape[1:])
        all_gather(found, padded)
        shares = [self.share(n, rank) for rank in range(self.size)]
        return torch.cat([found[r * each :][: s.stop - s.start] for r, s in enumerate(shares)])

    def merge(self, values: Tensor, mine: Tensor) -> Tensor:
        """values (N), in place: each entry from the rank whose `mine` (N) is true there, at most one.

        What is nobody's stays as it is.
        """
        if self.size > 1:
            owned = self.sum(mine.to(torch.int32)) > 0
            found = self.sum(torch.where(mine, values, 0))
            values.copy_(torch.where(owned, found, values))
        return values

    def same(self, tensors) -> None:
        """Every tensor becomes rank 0's, in place."""
        for t in tensors if self.size > 1 else ():
            whole = t.contiguous()
            dist.broadcast(whole, 0)
            t.copy_(whole)

    def meet(self):
        """Wait until all ranks are here."""
        self.most(0)

    @contextlib.contextmanager
    def in_turn(self):
        """First one process on each machine does what is within (a download), then the others."""
        if self.local_rank:
            self.meet()
        yield
        if not self.local_rank:
            self.meet()


def join(name: str = "auto") -> World:
    """The run's processes as torchrun's environment has them, or this one alone without it.

    name: "auto", "cpu" or "cuda", with a GPU for each process on a machine; alone as select_device has it.
    NCCL carries what is on GPUs, Gloo the rest. UsageError where they can't come together.
    """
    rank, size, local_rank = (_number(key, default) for key, default in ENVIRONMENT.items())
    if size == 1:
        return World(device=select_device(name))
    device = _device(name, local_rank)
    where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    try:
        with mortal():
            store, _, _ = next(dist.rendezvous("env://", timeout=TIMEOUT))
            kinds = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            group = dist.PrefixStore("group", store)
            dist.init_process_group(kinds, store=group, rank=rank, world_size=size, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as e:
        raise UsageError(f"rank {rank} can't meet the others at {where}: {str(e).splitlines()[0]}") from None
    return World(rank, size, local_rank, device, store)


@contextlib.contextmanager
def mortal():
    """A signal ends this process at once: while it waits for the others in a library, Python hears none."""
    kinds = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {kind: signal.signal(kind, signal.SIG_DFL) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


ENVIRONMENT = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}


def _number(key: str, default: int) -> int:
    text = os.environ.get(key, str(default))
    if not text.isdecimal() or (key == "WORLD_SIZE" and text == "0"):
        raise UsageError(f'{key}: "{text}" in the environment; start several processes with torchrun')
    return int(text)


def _device(name: str, local_rank: int) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f'--device {name}: several processes have a GPU each; give "auto", "cpu" or "cuda"')
    device = select_device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if local_rank >= count:
            has = f"this machine has {count} GPU(s), process {local_rank + 1} has none"
            raise UsageError(f"--nproc-per-node: {has}")
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    return device
