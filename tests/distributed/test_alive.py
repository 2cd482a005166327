"""The watch over the other processes."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from nets.common.errors import PeerError, UsageError
from nets.distributed.alive import Watch
from nets.training.world import World


def test_a_connection_without_the_token_is_refused(monkeypatch):
    """And a process that knows the word is let in; its end is seen, and said."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    server = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    stores = [torch.distributed.TCPStore("127.0.0.1", server.port, is_master=False) for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        opening = pool.submit(Watch, World(0, 2, store=stores[0]), 60)
        port = stores[1].get("alive/address").decode().split()[0]
        for word in (b"hello\n", b"0123456789abcdef 1 rank 1 (a stranger)\n"):
            with socket.create_connection(("127.0.0.1", int(port))) as stranger:
                stranger.sendall(word)
                assert stranger.recv(1) == b""
        other = Watch(World(1, 2, store=stores[1]), 60)
        watch = opening.result()
    assert [name for _, name in watch.peers.values()] == [other.name]
    for peer in (*watch.peers, *other.peers):
        assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    other.close()
    for peer in other.peers:
        peer.shutdown(socket.SHUT_RDWR)
    assert watch.news.wait(10) and watch.dead == other.name
    with pytest.raises(PeerError, match=r"rank 1 \(.*, pid .*\) died; resume with --resume"):
        watch.leave()
    assert str(watch.cause(KeyboardInterrupt())).startswith(other.name), "whatever else is raised here"
    assert isinstance(watch.cause(own := UsageError("")), UsageError) and not own.reported
    watch.close()
