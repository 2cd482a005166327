"""Many processes: those that need a group of them run in parallel_worker.py, all at once."""

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from nets.common.errors import PeerError, UsageError
from nets.data import sampler
from nets.distributed.agree import Agreement
from nets.distributed.alive import Watch, watched
from nets.distributed.backward import Backward, local_statistics, weight
from nets.distributed.buckets import Reducer
from nets.distributed.shard import Scatterer, ShardedSGD
from nets.distributed.sync_norm import SyncBatchNorm2d, synchronize
from nets.distributed.together import check_batch
from nets.distributed.world import join
from nets.kernels import lower, native
from nets.kernels.native_forms import NormAct
from nets.layers.norm import BatchNorm2d
from nets.losses import CrossEntropyLoss, Performance
from nets.optim.sgd import SGD
from nets.training import config
from nets.training.build import build
from nets.training.feed import rank_part
from nets.training.step import train_step
from nets.training.world import World
from tests import parallel_worker
from tests.training.test_step import OnlyOn

ROOT = Path(__file__).parents[2]
CHECKS = [check.__name__ for check in parallel_worker.CHECKS]
DEATHS = [" ".join(map(str, death[:3])) for death in parallel_worker.DEATHS]
FORK = pytest.mark.skipif(sys.platform != "linux", reason="forks")


def run(device):
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    args = [sys.executable, str(Path(__file__).parents[1] / "parallel_worker.py"), device]
    done = subprocess.run(args, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def results():
    return run("cpu")


@FORK
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("check", [*CHECKS, "end"])
def test_in_several_processes(results, size, check):
    result = results["checks"][f"{size} {check}"]
    assert result == "ok", result


@FORK
@pytest.mark.parametrize("death", DEATHS)
def test_a_death_ends_the_others_with_one_line(results, death):
    """With exit code 7 and the name of the one that died, at once; one that stands still after its grace."""
    codes, lines, seconds = results["deaths"][death]
    size, victim, how = death.split(" ", 2)
    size, victim = int(size), int(victim)
    said = [line for some in lines for line in some]
    assert len(said) == 1, said
    assert seconds < 10
    if how == "stopped":  # one has a signal, all stop at the same step
        assert codes == [143] * size and said[0].startswith("error: terminated at step ")
        return
    of_victim = {"data": 3}.get(how, -9)
    assert codes == [of_victim if rank == victim else 7 for rank in range(size)]
    if how == "data":  # it printed the reason itself
        assert said == ["error: picture.png: damaged"]
    else:
        assert said[0].startswith(f"error: rank {victim} (") and ", pid " in said[0]
        assert said[0].endswith(") died; resume with --resume")


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


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_on_two_gpus():
    """Everything over NCCL."""
    found = run("cuda")
    assert set(found["checks"].values()) == {"ok"}, found["checks"]


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 20))
def test_shares_are_complete_disjoint_and_even(n, size, batch):
    worlds = [World(rank, size) for rank in range(size)]
    counts = [w.share(n).stop - w.share(n).start for w in worlds]
    assert [i for w in worlds for i in range(n)[w.share(n)]] == [*range(n)]
    assert max(counts) - min(counts) <= 1
    if batch < size:
        with pytest.raises(UsageError, match="train.batch_size"):
            check_batch(batch, worlds[0])
        return
    check_batch(batch, worlds[0])
    flip = torch.arange(n) % 3 == 0
    plan = sampler.EpochPlan(torch.randperm(n), flip=flip)
    parts = [rank_part(plan, batch, w) for w in worlds]
    rows = [w.count(batch) for w in worlds]
    assert sum(rows) == batch and min(rows) >= 1
    for i in range(n // batch):
        whole = plan.batch(i * batch, (i + 1) * batch)
        some = [part.batch(i * r, (i + 1) * r) for part, r in zip(parts, rows)]
        assert torch.equal(torch.cat([s.order for s in some]), whole.order)
        assert torch.equal(torch.cat([s.flip for s in some]), whole.flip)
    assert all(len(part.order) // r == n // batch for part, r in zip(parts, rows))


def test_weights_add_up():
    mean, total = CrossEntropyLoss(), CrossEntropyLoss(reduction="sum")
    worlds = [World(rank, 4) for rank in range(4)]
    assert sum(weight(mean, w.count(11), 11) for w in worlds) == pytest.approx(1)
    assert weight(total, 3, 11) == weight(Performance(), 3, 11) == 1


def small_net(device="cpu"):
    layers = [{"type": "Conv2d", "out_channels": 8, "kernel_size": 3}, "BatchNorm2d", "GELU", "GlobalAvgPool"]
    return build([*layers, {"type": "Linear", "out_features": 3}], (3, 6, 6))[0].to(device)


@pytest.mark.parametrize("wire", [None, torch.bfloat16], ids=["same", "bfloat16"])
@pytest.mark.parametrize("sharded", [False, True])
def test_a_step_stays_on_a_fake_cuda_device(sharded, wire):
    """Buckets, the norm's own arithmetic and the pieces; nothing is read back to the host."""
    world = World()
    with FakeTensorMode():
        net, loss = synchronize(small_net("cuda"), world), CrossEntropyLoss()
        kind = Scatterer if sharded else Reducer
        reducer = kind(net.params, world, 0.0001, wire)
        optimizer = ShardedSGD(reducer, 0.1, 0.9) if sharded else SGD(net.params, 0.1, 0.9)
        statistics = [t for layer in net.walk() for t in layer.buffers.values() if layer is not net]
        step = train_step(net, loss, optimizer, backward=Backward(reducer, 0.5, 0.5, statistics))
        x, y = torch.rand(4, 3, 6, 6, device="cuda"), torch.randint(3, (4,), device="cuda")
        with OnlyOn("cuda"):
            result = step(x, y, torch.ones((), device="cuda"))
        assert len(reducer.buckets) > 2 and all(t.device.type == "cuda" for t in result if t is not None)


def test_buckets_are_sent_while_backward_runs(monkeypatch):
    """The last layers' first; one that isn't full only at the end."""
    net, sent = small_net(), []
    reducer = Reducer(net.params, World(), mb=0.00015)
    monkeypatch.setattr(reducer, "_start", lambda _, flat: sent.append(flat))
    wanted = [["4.bias", "4.weight", "1.bias"], ["1.weight", "0.bias"], ["0.weight"]]
    assert [[*b.places] for b in reducer.buckets] == wanted
    grads = {name: torch.full_like(w, i + 1.0) for i, (name, w) in enumerate(net.params.items())}
    counts = []
    for layer in ("4", "1", "0"):
        reducer.take({name: g for name, g in grads.items() if name[0] == layer and name != "0.bias"})
        counts.append(len(sent))
    assert counts == [0, 1, 2]
    found, _ = reducer.finish()
    assert len(sent) == 3 and "0.bias" not in found
    assert all(torch.equal(found[name], grads[name]) for name in found) and len(found) == len(grads) - 1
    assert reducer.buckets[1].view("0.bias").abs().sum() == 0, "what wasn't given is sent as 0"
    assert reducer.finish() == ({}, ()) and len(sent) == 3, "nothing is left from the step before"


def test_a_bucket_holds_one_type():
    params = {"a": torch.zeros(2), "b": torch.zeros(2, dtype=torch.float64), "c": torch.zeros(2)}
    reducer = Reducer(params, World())
    assert [[*b.places] for b in reducer.buckets] == [["c"], ["b"], ["a"]]
    reducer.take({name: torch.ones_like(w) for name, w in params.items()})
    grads, _ = reducer.finish()
    assert {name: g.dtype for name, g in grads.items()} == {name: w.dtype for name, w in params.items()}


def test_a_synchronized_net_keeps_names_and_tensors():
    layers = ["BatchNorm2d", {"type": "Residual", "body": ["BatchNorm2d"]}, "GlobalAvgPool"]
    net = build(layers, (3, 4, 4))[0]
    shared = net.children["0"]
    net.children["1"].children["body"].children["0"] = shared
    before, state = {**net.params, **net.buffers}, [id(t) for t in (net.params | net.buffers).values()]
    assert synchronize(net, World()) is net
    after = {**net.params, **net.buffers}
    assert [*after] == [*before] and [id(t) for t in after.values()] == state
    norms = [layer for layer in net.leaves() if isinstance(layer, BatchNorm2d)]
    assert len(norms) == 2 and norms[0] is norms[1] and type(norms[0]) is SyncBatchNorm2d
    net.eval()
    assert not norms[0].training
    assert local_statistics(net) == []


@pytest.mark.skipif(not native.available(torch.device("cpu"), torch.float32), reason="no kernels")
def test_synchronized_norms_are_not_fused():
    """A stage would take its own rows' sums in backward."""
    net = synchronize(small_net(), World())
    kinds = [type(layer) for layer in lower(net, "native", "cpu", torch.float32).walk()]
    assert SyncBatchNorm2d in kinds and NormAct not in kinds


def test_statistics_of_a_fused_net():
    """They are the tensors that its fused form updates."""
    net = small_net()
    fused = lower(net, "native", "cpu", torch.float32)
    assert [id(t) for t in local_statistics(net)] == [id(t) for t in fused.buffers.values()]
    assert len(fused.buffers) == 2


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
        agree = Agreement(world, seconds=1e9)
        said = [agree(step, step == 3, now=step == 3) for step in range(1, 5)]
        assert said == [(False,), (False,), (True,), None]


@pytest.mark.parametrize(
    "environment, name, words",
    [
        ({"WORLD_SIZE": "two"}, "cpu", "WORLD_SIZE"),
        ({"WORLD_SIZE": "0"}, "cpu", "WORLD_SIZE"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "cpu", "RANK"),
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
        join(name)


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "3")
    with pytest.raises(UsageError, match=r"--nproc-per-node: .* 2 GPU\(s\), process 4 has none"):
        join("auto")


@pytest.mark.parametrize(
    "override, words",
    [
        ("distributed.batch_norm=global", "distributed.batch_norm"),
        ("distributed.reduce_dtype=float16", "distributed.reduce_dtype"),
        ("distributed.bucket_mb=0", "distributed.bucket_mb"),
        ("distributed.shard_optimizer=1", "distributed.shard_optimizer"),
        ("distributed.buckets=1", 'bucket_mb"?'),
    ],
)
def test_config(override, words):
    with pytest.raises(UsageError) as e:
        config.load(ROOT / "configs" / "digits.toml", [override])
    assert words in str(e.value)


def test_only_sgd_is_sharded():
    for kind in ("muon", "adaptive"):
        with pytest.raises(
            UsageError, match=f"distributed.shard_optimizer: only for the optimizer sgd, not {kind}"
        ):
            config.load(
                ROOT / "configs" / "digits.toml",
                ["distributed.shard_optimizer=true", f"train.optimizer={kind}"],
            )
    assert config.load(
        ROOT / "configs" / "dense.toml", ["distributed.shard_optimizer=true"]
    ).distributed.shard_optimizer


def test_exit_code():
    assert PeerError.code == 7
