"""A process that dies ends the others, with one line that says which it was.

Every process is connected with rank 0. A process that dies, in whatever way, can't keep a connection
open: its operating system closes it, and rank 0 tells the rest. If the whole machine is gone, the
connection's keep-alive finds out. Who has to go says so; what isn't said is a death.
"""

import contextlib
import os
import secrets
import selectors
import signal
import socket
import sys
import threading

import torch.distributed as dist

from nets.errors import PeerError, Problem, Stopped
from nets.parallel.world import World

BYE = "bye"
# seconds of silence until a probe, between probes, and how many: a machine is gone after 5 + 3·4 s
KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 4, "TCP_KEEPCNT": 3}


@contextlib.contextmanager
def watched(world: World, grace: float = 5.0):
    """Around all that the processes do together, from World.join to the end.

    A death anywhere becomes PeerError here, with exit code 7, and a Problem of this process's own is
    its own again. Of all processes one is to tell: the others' problems are `told`.
    grace: seconds for this process to get here after a death. One that stands still, waiting for
    the dead, is ended then.

    At the end all wait for one another.
    """
    if world.size == 1:
        yield
        return
    watch = Watch(world, grace)
    try:
        yield
        watch.leave()
    except BaseException as e:
        _deaf()
        problem = watch.judge(e)
        if not isinstance(problem, SystemExit):  # which says nothing
            problem.told = not watch.claim()
        if problem is e:
            raise
        raise problem from e
    finally:
        watch.close()
        if watch.over.is_set():
            dist.destroy_process_group()


class Watch:
    """One process's connections, and a thread that listens to them.

    dead   the name of the process that died first, "" while all live
    """

    def __init__(self, world: World, grace: float):
        self.world, self.grace = world, grace
        self.store = dist.PrefixStore("alive", world.store.clone())  # a waiting call elsewhere holds up none here
        self.name = f"rank {world.rank} ({socket.gethostname()}, pid {os.getpid()})"
        self.dead = ""
        self.news, self.over, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.lock = threading.Lock()
        self.staying = {world.rank}  # ranks that haven't said goodbye, as far as this one is told
        self.peers = self._welcome() if world.first else self._knock()
        self.staying |= {rank for rank, _ in self.peers.values()}
        threading.Thread(target=self._listen, daemon=True).start()

    def _welcome(self) -> dict:
        """Rank 0: a connection with every other process."""
        token, peers = secrets.token_hex(8), {}
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        with socket.create_server(
            ("", 0), family=family, backlog=self.world.size, dualstack_ipv6=family == socket.AF_INET6
        ) as server:
            self.store.set("door", f"{server.getsockname()[1]} {token} {self.name}")
            while len(peers) < self.world.size - 1:
                peer, _ = server.accept()
                peer.settimeout(5)
                with contextlib.suppress(OSError, ValueError):
                    given, rank, name = _read(peer).split(" ", 2)
                    if given == token:  # and not somebody who tries doors
                        peers[_lasting(peer)] = int(rank), name
                        continue
                peer.close()
        return peers

    def _knock(self) -> dict:
        """Another rank: a connection with rank 0."""
        port, token, name = self.store.get("door").decode().split(" ", 2)
        peer = socket.create_connection((os.environ["MASTER_ADDR"], int(port)))
        _say(peer, f"{token} {self.world.rank} {self.name}")
        return {_lasting(peer): (0, name)}

    def _listen(self):
        with selectors.DefaultSelector() as ready:
            for peer in self.peers:
                ready.register(peer, selectors.EVENT_READ)
            while ready.get_map() and not self.dead and not self.closed.is_set():
                for key, _ in ready.select(timeout=1.0):
                    rank, name = self.peers[key.fileobj]
                    try:
                        word = _read(key.fileobj)
                    except OSError:
                        word = ""
                    if word == BYE:
                        ready.unregister(key.fileobj)
                        self._left(rank)
                    elif not self.dead:
                        self._died(word or name)
        if self.dead and not self.closed.wait(self.grace):
            _end(self._line(), self.claim())

    def _left(self, rank: int):
        """A rank, maybe this one, has nothing more to do with the others. When none has, all may go."""
        with self.lock:
            self.staying.discard(rank)
            if self.world.first and not self.staying:
                self._tell(BYE)
        if not self.staying or not self.world.first and rank == 0:
            self.over.set()
            self.news.set()

    def _died(self, name: str):
        self.dead = name
        if self.world.first:
            self._tell(name)
        self.news.set()

    def _tell(self, word: str):
        for peer in self.peers:
            with contextlib.suppress(OSError):
                _say(peer, word)

    def leave(self, limit: float | None = None):
        """Say goodbye and wait, up to `limit` seconds, until all have: they may end now. PeerError at a death."""
        if not self.world.first:
            self._tell(BYE)
        self._left(self.world.rank)
        self.news.wait(limit)
        if self.dead and not self.over.is_set():
            raise PeerError(self._line())

    def judge(self, e: BaseException) -> BaseException:
        """What an exception is really: a peer's death, where one has died."""
        if isinstance(e, Stopped):  # by all, at the same step; or by torchrun, as one has died
            with contextlib.suppress(PeerError):
                self.leave(limit=30)
        elif not isinstance(e, Problem):
            self.news.wait(3)  # a collective may know of a death before we do
        if isinstance(e, PeerError) or isinstance(e, Problem) and not isinstance(e, Stopped):
            return e
        if self.dead and not self.over.is_set():
            return PeerError(self._line())
        if isinstance(e, RuntimeError) and any(word in str(e) for word in ("gloo", "NCCL", "Connection")):
            return PeerError(f"the processes have lost touch; go on with --resume ({str(e).splitlines()[0]})")
        return e

    def claim(self) -> bool:
        """Is this the first process that has something to tell? One line is enough for all of them."""
        if self.dead.startswith("rank 0 ") and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            return True  # the store is gone with it: without torchrun's agent rank 0 keeps it
        told = []

        def ask():
            with contextlib.suppress(RuntimeError):
                told.append(self.store.add("told", 1))

        asking = threading.Thread(target=ask, daemon=True)  # the store may be where the dead was
        asking.start()
        asking.join(2)
        return told[:1] in ([], [1])

    def close(self):
        """Nothing is watched from here on."""
        self.closed.set()

    def _line(self) -> str:
        return f"{self.dead} died; go on with --resume"


def _read(peer: socket.socket) -> str:
    """The next line, "" at the end."""
    line = b""
    while not line.endswith(b"\n"):
        byte = peer.recv(1)
        if not byte:
            return ""
        line += byte
    return line[:-1].decode(errors="replace")


def _say(peer: socket.socket, word: str):
    peer.sendall(word.encode() + b"\n")


def _lasting(peer: socket.socket) -> socket.socket:
    """A connection that is never too slow, but may be found dead."""
    peer.settimeout(None)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # not on every system
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return peer


def _deaf():
    """Hear no more SIGTERM: torchrun sends it when one has died, and what is to be said must be said."""
    with contextlib.suppress(SystemExit, ValueError):  # of a last one; not the main thread
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _end(line: str, tell: bool):
    """End a process that stands still."""
    if tell:
        print(f"error: {line}", file=sys.stderr, flush=True)
    os._exit(PeerError.code)
