"""Several processes, forked from one that has imported everything, so that a run of four takes a moment.

It also keeps the store in which they find one another, as torchrun's agent does.
"""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch.distributed as dist


def fork(size: int, work, agent=True, alone=False, limit=100) -> tuple[list[int], list[list[str]], float]:
    """work(rank) in `size` processes: their exit codes, what each said, the seconds from first end to last.

    agent  end the others when one ends badly, as torchrun's does
    alone  no separate process keeps the store: rank 0 does
    """
    keeper, port = _keep_a_store(serve=not alone)
    os.environ |= {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = str(not alone)
    folder, parent = tempfile.mkdtemp(), os.getpid()
    try:
        said = [Path(folder) / str(rank) for rank in range(size)]
        pids, ends = {}, {}
        for rank in range(size):
            pid = os.fork()
            if not pid:
                _child(rank, work, said[rank])
            pids[pid] = rank
        while not all(file.exists() for file in said):  # on a busy machine one may be ended before it began
            time.sleep(0.001)
        begin = time.monotonic()
        signal.signal(signal.SIGALRM, lambda *_: [os.kill(pid, signal.SIGKILL) for pid in pids])
        signal.alarm(limit)
        while pids:
            pid, status = os.wait()
            if pid == keeper:
                continue
            ends[pids.pop(pid)] = os.waitstatus_to_exitcode(status)
            if len(ends) == 1:
                begin = time.monotonic()
                _terminate(pids if agent and status else (), 1 if os.WIFEXITED(status) else 30)
        signal.alarm(0)
        os.kill(keeper, signal.SIGKILL)
        os.waitpid(keeper, 0)
        lines = [file.read_text().splitlines() for file in said]
    finally:
        if os.getpid() == parent:  # not a child that a signal ends just here
            shutil.rmtree(folder)
    return [ends[rank] for rank in range(size)], lines, time.monotonic() - begin


def _terminate(pids, times: int):
    """As torchrun's agent does, if not so often: a signal may come at any moment of a process's end."""
    for _ in range(times):
        for pid in pids:
            os.kill(pid, signal.SIGTERM)  # what has ended is there until it is waited for
        time.sleep(0.001)


def _keep_a_store(serve: bool) -> tuple[int, str]:
    """A process (its id) with a store at a port. It has the threads, so that this one may fork."""
    here, there = os.pipe()
    parent, pid = os.getpid(), os.fork()
    if not pid:
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        port = store.port
        if not serve:
            del store  # the port is free then, and likely to stay so
        os.write(there, str(port).encode())
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(0)
    os.close(there)
    port = os.read(here, 99).decode()
    os.close(here)
    return pid, port


def _child(rank: int, work, said: Path):
    code = 99
    try:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        for stream in (1, 2):
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        work(rank)
        code = 0
    except SystemExit as e:
        code = e.code
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
