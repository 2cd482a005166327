"""Joining the process group."""

import time

import pytest
import torch

from nets.common.errors import UsageError
from nets.data import sampler
from nets.distributed.alive import watched
from nets.distributed.world import join
from nets.training.feed import rank_part
from nets.training.world import World


def test_collectives_of_one_process_are_the_identity(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    world = join("cpu")
    assert world == World() and world.is_main and not torch.distributed.is_initialized()
    x = torch.arange(3.0)
    assert torch.equal(world.sum(x.clone()), x) and torch.equal(world.gather(x, 3), x)
    assert world.max(3, -1) == [3, -1] and world.all_true(x > -1).all()
    world.broadcast([x])
    plan = sampler.EpochPlan(torch.randperm(7))
    assert rank_part(plan, 3, world) is plan
    assert torch.equal(world.map_shares(lambda some: x[some], 3), x)
    with world.local_main_first(), watched(world):
        assert not torch.distributed.is_initialized()


MASTER = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}  # no service listens there


@pytest.mark.parametrize(
    "environment, name, words",
    [
        ({"WORLD_SIZE": "two"}, "cpu", "WORLD_SIZE"),
        ({"WORLD_SIZE": "0"}, "cpu", "WORLD_SIZE"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "cpu", "RANK"),
        ({"WORLD_SIZE": "9" * 14}, "cpu", 'WORLD_SIZE: "9+" in the environment'),
        ({"WORLD_SIZE": "9" * 5000}, "cpu", 'WORLD_SIZE: "9{60}" in'),
        ({"WORLD_SIZE": "2", "RANK": "5"}, "cpu", "RANK: 5 in the environment is not below WORLD_SIZE, 2"),
        ({"RANK": "1"}, "cpu", "RANK: 1 in the environment is not below WORLD_SIZE, 1"),
        ({"WORLD_SIZE": "2", **MASTER, "MASTER_PORT": "x"}, "cpu", "MASTER_ADDR and MASTER_PORT must be"),
        ({"WORLD_SIZE": "2", **MASTER, "MASTER_PORT": "99999"}, "cpu", "MASTER_ADDR and MASTER_PORT must be"),
        ({"WORLD_SIZE": "2", **MASTER, "RANK": "1"}, "cpu", "127.0.0.1:9: Connection refused after 0.3 s"),
        (
            {"WORLD_SIZE": "2", "MASTER_ADDR": "no.such.host.invalid", "MASTER_PORT": "9"},
            "cpu",
            "after 0.3 s",
        ),
        ({"WORLD_SIZE": "2"}, "cuda:1", "--device cuda:1"),
        ({"WORLD_SIZE": "2", "RANK": "1"}, "cpu", "rank 1 can't connect to the others"),
    ],
)
def test_a_wrong_environment_is_named(environment, name, words, monkeypatch):
    for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(key, raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UsageError, match=words):
        join(name, seconds=0.3)


def test_a_rank_that_does_not_come_is_named(monkeypatch):
    server = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = {**MASTER, "MASTER_PORT": str(server.port), "WORLD_SIZE": "3", "RANK": "1"}
    for key, value in (environment | {"TORCHELASTIC_USE_AGENT_STORE": "True"}).items():
        monkeypatch.setenv(key, value)
    begin = time.monotonic()
    with pytest.raises(UsageError, match=r"rank 0, 2 isn't there after 0\.3 s; distributed\.connect_seconds"):
        join("cpu", seconds=0.3)
    assert time.monotonic() - begin < 10


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "3")
    with pytest.raises(UsageError, match=r"--nproc-per-node: .* 2 GPU\(s\), process 4 has none"):
        join("auto")
