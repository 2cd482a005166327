"""A process that dies ends the others, with one error line that names it.

Every process has a connection with rank 0. When a process dies, its operating system closes the connection,
and rank 0 tells the other ranks. If a whole machine fails, the connection's keep-alive finds out. A process
that ends regularly says goodbye first; without a goodbye it counts as dead.
"""

import contextlib
import os
import secrets
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import torch.distributed as dist

from nets.common.errors import PeerError, Problem, Stopped, first_line
from nets.distributed.world import default_signals, prefix_store
from nets.training.world import World

BYE = "bye"
# seconds of silence before a probe, between probes, and their number: a machine is dead after 5 + 3·4 s
KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 4, "TCP_KEEPCNT": 3}


@contextlib.contextmanager
def watched(world: World, grace: float = 5.0) -> Iterator[World]:
    """Around everything that the processes do together: `with watched(join(device)) as world`.

    If any process dies, one of the others prints at once which one, and in each of them PeerError is raised
    here, with exit code 7. A Problem raised in this process stays what it is. An error that several
    processes have is printed by one of them: in the others its `reported` is true.
    grace: seconds for this process to get here after a death. If it hangs, waiting for the dead process,
    it is ended then.

    At the end the processes wait for one another.
    """
    if world.size == 1:
        yield world
        return
    with default_signals():
        watch = Watch(world, grace)
    restore = _handle_sigterm(watch)
    try:
        yield world
        watch.leave()
    except BaseException as e:
        error = watch.cause(e)
        if isinstance(error, Problem):
            error.reported = watch.reported or not watch.claim()
        if error is e:
            raise
        raise error from e
    finally:
        watch.close()
        if not watch.dead:
            restore()
        if watch.over.is_set():
            dist.destroy_process_group()


def _handle_sigterm(watch: "Watch") -> Callable[[], object]:
    """SIGTERM counts only while all processes live. torchrun also sends it when one has died, and then the
    error line must still be printed. Returns a function that restores the handler."""
    if threading.current_thread() is not threading.main_thread():  # only there can handlers be set
        return lambda: None

    def handle(number, frame):
        watch.news.wait(0.5)  # a connection is closed before torchrun notices
        if watch.dead:
            return
        signal.signal(number, before)
        signal.raise_signal(number)

    before = signal.signal(signal.SIGTERM, handle)
    return lambda: signal.signal(signal.SIGTERM, before)


class Watch:
    """One process's connections, and a thread that reads from them.

    dead      the name of the process that died first, "" while all live
    reported  has a process printed who died?
    news      set at a death and at the common end
    over      set at the common end
    """

    def __init__(self, world: World, grace: float):
        self.world, self.grace = world, grace
        # its own connection to the store: a blocking call elsewhere doesn't delay calls here
        self.store = prefix_store("alive", world.store.clone())
        self.name = f"rank {world.rank} ({socket.gethostname()}, pid {os.getpid()})"
        self.dead, self.reported = "", False
        self.news, self.over, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.lock = threading.Lock()
        self.staying = {world.rank}  # ranks that haven't said goodbye, as far as this rank knows
        self.peers = self._accept_all() if world.is_main else self._connect()
        self.staying |= {rank for rank, _ in self.peers.values()}
        threading.Thread(target=self._listen, daemon=True).start()

    def _accept_all(self) -> dict[socket.socket, tuple[int, str]]:
        """Rank 0: a connection with every other process. Others can't connect: they lack the token."""
        token, peers = secrets.token_hex(8), {}
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        backlog = self.world.size
        with socket.create_server(("", 0), family=family, backlog=backlog, dualstack_ipv6=both) as server:
            self.store.set("address", f"{server.getsockname()[1]} {token} {self.name}")
            while len(peers) < self.world.size - 1:
                peer, _ = server.accept()
                peer.settimeout(5)
                with contextlib.suppress(OSError, ValueError):
                    given, rank, name = _receive(peer).split(" ", 2)
                    if given == token:
                        peers[_keep_alive(peer)] = int(rank), name
                        continue
                peer.close()
        return peers

    def _connect(self) -> dict[socket.socket, tuple[int, str]]:
        """Another rank: a connection with rank 0."""
        port, token, name = self.store.get("address").decode().split(" ", 2)
        peer = socket.create_connection((os.environ["MASTER_ADDR"], int(port)))
        _send(peer, f"{token} {self.world.rank} {self.name}")
        return {_keep_alive(peer): (0, name)}

    def _listen(self):
        with selectors.DefaultSelector() as ready:
            for peer, (rank, name) in self.peers.items():
                ready.register(peer, selectors.EVENT_READ, (peer, rank, name))
            while ready.get_map() and not self.dead and not self.closed.is_set():
                for key, _ in ready.select(timeout=1.0):
                    peer, rank, name = key.data
                    try:
                        word = _receive(peer)
                    except OSError:
                        word = ""
                    if word == BYE:
                        ready.unregister(peer)
                        self._left(rank)
                    elif not self.dead:
                        self._died(word or name)
        if self.dead and not self.closed.wait(self.grace):
            os._exit(PeerError.code)

    def _left(self, rank: int):
        """A rank, maybe this one, has said goodbye. When all have, every process may go."""
        with self.lock:
            self.staying.discard(rank)
            if self.world.is_main and not self.staying:
                self._send_all(BYE)
        if not self.staying or (not self.world.is_main and rank == 0):
            self.over.set()
            self.news.set()

    def _died(self, name: str):
        self.dead = name
        if self.world.is_main:
            self._send_all(name)
        if self.claim():  # printed in this thread: the main thread may hang
            print(f"error: {self._line()}", file=sys.stderr, flush=True)
        self.reported = True
        self.news.set()

    def _send_all(self, word: str):
        for peer in self.peers:
            with contextlib.suppress(OSError):
                _send(peer, word)

    def leave(self, limit: float | None = None):
        """Say goodbye and wait, up to `limit` seconds, until all have. PeerError at a death."""
        if not self.world.is_main:
            self._send_all(BYE)
        self._left(self.world.rank)
        self.news.wait(limit)
        if self.dead and not self.over.is_set():
            raise PeerError(self._line())

    def cause(self, e: BaseException) -> BaseException:
        """The error behind an exception: PeerError if it follows from another process's death."""
        if isinstance(e, Stopped):  # all stop at the same step; or torchrun stops them after a death
            with contextlib.suppress(PeerError):
                self.leave(limit=30)
        elif isinstance(e, Problem):
            return e
        elif not isinstance(e, SystemExit):
            self.news.wait(3)  # a collective may fail before the death is known here
        if self.dead and not self.over.is_set():
            return PeerError(self._line())
        if isinstance(e, RuntimeError) and any(word in str(e) for word in ("gloo", "NCCL", "Connection")):
            reason = first_line(e)
            return PeerError(f"a connection between the processes broke; resume with --resume ({reason})")
        return e

    def claim(self) -> bool:
        """Is this the first process with an error to print? One line is enough for all of them."""
        if self.dead.startswith("rank 0 ") and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            return True  # the store died with rank 0: without torchrun's agent, rank 0 keeps it
        counts = []

        def ask():
            with contextlib.suppress(RuntimeError):
                counts.append(self.store.add("reported", 1))

        asking = threading.Thread(target=ask, daemon=True)  # the store may be on the dead machine
        asking.start()
        asking.join(2)
        return counts[:1] in ([], [1])

    def close(self):
        """Stop watching."""
        self.closed.set()

    def _line(self) -> str:
        return f"{self.dead} died; resume with --resume"


def _receive(peer: socket.socket) -> str:
    """The next line, "" at the end."""
    line = b""
    while not line.endswith(b"\n"):
        byte = peer.recv(1)
        if not byte:
            return ""
        line += byte
    return line[:-1].decode(errors="replace")


def _send(peer: socket.socket, word: str):
    peer.sendall(word.encode() + b"\n")


def _keep_alive(peer: socket.socket) -> socket.socket:
    """A connection without a time limit, which notices when the other machine fails."""
    peer.settimeout(None)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # not on every system
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return peer
