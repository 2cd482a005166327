"""Several processes of a run: torchrun starts them, `join` connects them in a ProcessGroup."""

import contextlib
import os
import signal
import socket
import threading
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from nets.common.device import select_device
from nets.common.errors import UsageError, first_line
from nets.training.world import World

TIMEOUT = timedelta(minutes=30)  # rank 0 may write a checkpoint or a figure; alive.py detects a dead process
LIMIT = "distributed.connect_seconds sets the limit"
# torch 2.14 renamed them and warns about the old names
all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor

prefix_store = dist.PrefixStore  # pyright: ignore[reportPrivateImportUsage]


class ProcessGroup(World):
    """A World of several processes, whose collectives are torch.distributed's."""

    def differing(self, digest: str) -> list[int]:
        own = torch.tensor([[int(digest[:15], 16)]])
        found = self.gather(own, self.size).flatten().tolist()
        return [rank for rank, other in enumerate(found) if other != found[0]]

    def sum(self, t: Tensor) -> Tensor:
        if self.size > 1:
            dist.all_reduce(t)
        return t

    def all_true(self, ok: Tensor) -> Tensor:
        return self.sum((~ok).to(torch.int32)) == 0

    def max(self, *numbers: int) -> list[int]:
        t = torch.tensor(numbers)
        if self.size > 1:
            dist.all_reduce(t, dist.ReduceOp.MAX)
        return t.tolist()

    def gather(self, rows: Tensor, n: int) -> Tensor:
        if self.size == 1:
            return rows
        each = -(-n // self.size)
        padded = rows.new_zeros(each, *rows.shape[1:])  # all ranks send the same size
        padded[: len(rows)] = rows
        found = rows.new_empty(self.size * each, *rows.shape[1:])
        all_gather(found, padded)
        shares = [self.share(n, rank) for rank in range(self.size)]
        return torch.cat([found[r * each :][: s.stop - s.start] for r, s in enumerate(shares)])

    def merge(self, values: Tensor, mine: Tensor) -> Tensor:
        if self.size > 1:
            owned = self.sum(mine.to(torch.int32)) > 0
            found = self.sum(torch.where(mine, values, 0))
            values.copy_(torch.where(owned, found, values))
        return values

    def broadcast(self, tensors) -> None:
        for t in tensors if self.size > 1 else ():
            whole = t.contiguous()
            dist.broadcast(whole, 0)
            t.copy_(whole)

    def barrier(self) -> None:
        self.max(0)

    @contextlib.contextmanager
    def local_main_first(self):
        if self.local_rank:
            self.barrier()
        yield
        if not self.local_rank:
            self.barrier()

    def agreement(self):
        from nets.distributed.agree import Agreement  # it needs this module

        return Agreement(self)

    def prepare(self, config, net, loss, batch, make_optimizer):
        from nets.distributed.together import prepare

        return prepare(config, net, loss, batch, self, make_optimizer)


def join(name: str = "auto", seconds: float = 20.0) -> World:
    """The processes that torchrun's environment variables describe; without them, this process alone.

    name     "auto", "cpu" or "cuda", with one GPU for each process on a machine; alone as for select_device
    seconds  in which the processes must find one another

    NCCL is used for tensors on GPUs, Gloo for the others. UsageError if the processes can't connect.
    """
    rank, size, local_rank = (_number(key, default) for key, default in ENVIRONMENT.items())
    if rank >= size:
        raise UsageError(f"RANK: {rank} in the environment is not below WORLD_SIZE, {size}")
    if size == 1:
        return World(device=select_device(name))
    device = _device(name, local_rank)
    where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    try:
        with default_signals():
            store = _find_all(rank, size, seconds)
            kinds = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            group = prefix_store("group", store)
            dist.init_process_group(kinds, store=group, rank=rank, world_size=size, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as e:
        raise UsageError(f"rank {rank} can't connect to the others at {where}: {first_line(e)}") from None
    return ProcessGroup(rank, size, local_rank, device, store)


def _find_all(rank: int, size: int, seconds: float):
    """The store that all processes share, when all have connected to it. RuntimeError after `seconds`."""
    begin = time.monotonic()
    _wait_for_store(rank, seconds)
    limit = timedelta(seconds=max(1.0, begin + seconds - time.monotonic()))
    store, _, _ = next(rendezvous("env://", timeout=limit))
    here = prefix_store("here", store)
    here.set(str(rank), "")
    try:
        here.wait([str(other) for other in range(size)], limit)
    except RuntimeError:
        missing = [str(other) for other in range(size) if not here.check([str(other)])]
        late = f"rank {', '.join(missing[:5])} isn't there after {seconds:g} s"
        raise RuntimeError(f"{late}; {LIMIT}") from None
    store.set_timeout(TIMEOUT)
    return store


def _wait_for_store(rank: int, seconds: float):
    """Until the store's address can be reached, as torch would, but without torch's messages on stderr."""
    host, port = (os.environ.get(key, "") for key in ("MASTER_ADDR", "MASTER_PORT"))
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError("MASTER_ADDR and MASTER_PORT must be in the environment; torchrun sets them")
    serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    end = time.monotonic() + seconds
    while True:
        try:
            if serves:  # this process opens the store
                socket.getaddrinfo(host, int(port))
            else:
                socket.create_connection((host, int(port)), max(0.1, end - time.monotonic())).close()
            return
        except OSError as e:
            if time.monotonic() > end:
                raise RuntimeError(f"{e.strerror or e} after {seconds:g} s; {LIMIT}") from None
            time.sleep(0.2)


@contextlib.contextmanager
def default_signals():
    """A signal ends this process at once: Python handles none while a library waits for other processes."""
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
    if not (text.isdecimal() and len(text) < 7) or (key == "WORLD_SIZE" and int(text) == 0):
        raise UsageError(f'{key}: "{text[:60]}" in the environment; start several processes with torchrun')
    return int(text)


def _device(name: str, local_rank: int) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f'--device {name}: with several processes, each has its own GPU; use "auto", "cpu" or "cuda"'
        )
    device = select_device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if local_rank >= count:
            has = f"this machine has {count} GPU(s), process {local_rank + 1} has none"
            raise UsageError(f"--nproc-per-node: {has}")
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    return device
