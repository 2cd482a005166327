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

from nets.common.errors import PeerError, Problem, Stopped
from nets.distributed.world import mortal
from nets.training.world import World

BYE = "bye"
# seconds of silence until a probe, between probes, and how many: a machine is gone after 5 + 3·4 s
KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 4, "TCP_KEEPCNT": 3}


@contextlib.contextmanager
def watched(world: World, grace: float = 5.0):
    """Around all that the processes do together: `with watched(join(device)) as world`.

    A death anywhere is told at once, by one of the processes left, and becomes PeerError here, with
    exit code 7. A Problem of this process's own stays what it is. What another process has told is
    `told`: a process's own end, too, is told by one alone where all end for the same reason.
    grace: seconds for this process to get here after a death. One that stands still, waiting for
    the dead, is ended then.

    At the end all wait for one another.
    """
    if world.size == 1:
        yield world
        return
    with mortal():
        watch = Watch(world, grace)
    restore = _signals(watch)
    try:
        yield world
        watch.leave()
    except BaseException as e:
        problem = watch.judge(e)
        if not isinstance(problem, SystemExit):  # which says nothing
            problem.reported = watch.is_told or not watch.claim()
        if problem is e:
            raise
        raise problem from e
    finally:
        watch.close()
        if not watch.dead:
            restore()
        if watch.over.is_set():
            dist.destroy_process_group()


def _signals(watch: "Watch"):
    """SIGTERM counts only while all live: torchrun sends it as well when one has died, and then what
    has to be said must be said. Returns what takes this back."""
    if threading.current_thread() is not threading.main_thread():  # only there can handlers be set
        return lambda: None

    def hear(number, frame):
        watch.news.wait(0.5)  # a connection is closed before torchrun notices
        if watch.dead:
            return
        signal.signal(number, before)
        signal.raise_signal(number)

    before = signal.signal(signal.SIGTERM, hear)
    return lambda: signal.signal(signal.SIGTERM, before)


class Watch:
    """One process's connections, and a thread that listens to them.

    dead   the name of the process that died first, "" while all live
    """

    def __init__(self, world: World, grace: float):
        self.world, self.grace = world, grace
        # a connection of its own: a call that waits elsewhere holds up none here
        self.store = dist.PrefixStore("alive", world.store.clone())
        self.name = f"rank {world.rank} ({socket.gethostname()}, pid {os.getpid()})"
        self.dead, self.is_told = "", False
        self.news, self.over, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.lock = threading.Lock()
        self.staying = {world.rank}  # ranks that haven't said goodbye, as far as this one is told
        self.peers = self._welcome() if world.is_main else self._knock()
        self.staying |= {rank for rank, _ in self.peers.values()}
        threading.Thread(target=self._listen, daemon=True).start()

    def _welcome(self) -> dict:
        """Rank 0: a connection with every other process."""
        token, peers = secrets.token_hex(8), {}
        both = socket.has_dualstack_ipv6()
        kind = {"family": socket.AF_INET6 if both else socket.AF_INET, "dualstack_ipv6": both}
        with socket.create_server(("", 0), backlog=self.world.size, **kind) as server:
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
            os._exit(PeerError.code)

    def _left(self, rank: int):
        """A rank, maybe this one, has nothing more to do with the others. When none has, all may go."""
        with self.lock:
            self.staying.discard(rank)
            if self.world.is_main and not self.staying:
                self._tell(BYE)
        if not self.staying or (not self.world.is_main and rank == 0):
            self.over.set()
            self.news.set()

    def _died(self, name: str):
        self.dead = name
        if self.world.is_main:
            self._tell(name)
        if self.claim():  # here and now: the main thread may not get to it
            print(f"error: {self._line()}", file=sys.stderr, flush=True)
        self.is_told = True
        self.news.set()

    def _tell(self, word: str):
        for peer in self.peers:
            with contextlib.suppress(OSError):
                _say(peer, word)

    def leave(self, limit: float | None = None):
        """Say goodbye and wait, up to `limit` seconds, until all have. PeerError at a death."""
        if not self.world.is_main:
            self._tell(BYE)
        self._left(self.world.rank)
        self.news.wait(limit)
        if self.dead and not self.over.is_set():
            raise PeerError(self._line())

    def judge(self, e: BaseException) -> BaseException:
        """What an exception is really: a peer's death, where one has died."""
        if isinstance(e, Stopped):  # all are, at the same step; or torchrun stops them, as one has died
            with contextlib.suppress(PeerError):
                self.leave(limit=30)
        elif isinstance(e, Problem):
            return e
        elif not isinstance(e, SystemExit):
            self.news.wait(3)  # a collective may know of a death before we do
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
