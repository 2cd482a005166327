"""What test_process_group.py runs in several processes: python parallel_worker.py [cpu | cuda].

One process imports everything and forks the others, so that a run of four takes a moment. It keeps
the store in which they find one another, as torchrun's agent does, and prints what became of them.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from pathlib import Path

import torch
import torch.distributed as dist

from nets.commands import cli
from nets.common.errors import CheckpointError, DataError, Stopped
from nets.data import sampler
from nets.distributed.agree import Agreement
from nets.distributed.alive import watched
from nets.distributed.backward import Backward, local_statistics, weight
from nets.distributed.buckets import Reducer
from nets.distributed.shard import Scatterer, ShardedSGD
from nets.distributed.sync_norm import SyncBatchNorm2d, synchronize
from nets.distributed.world import join
from nets.layers.norm import BatchNorm2d
from nets.losses import CrossEntropyLoss, MSELoss, Performance
from nets.optim.muon import Muon
from nets.optim.sgd import SGD
from nets.training.build import build
from nets.training.feed import rank_part
from nets.training.guard import Guard
from nets.training.step import train_step
from nets.training.world import World

CLOSE = 1e-10
CONV = {"type": "Conv2d", "out_channels": 4, "kernel_size": 3, "padding": 1}
LAYERS = [
    CONV,
    "BatchNorm2d",
    "GELU",
    {"type": "Residual", "body": [CONV, "BatchNorm2d"]},
    {"type": "MaxPool2d", "kernel_size": 2},
    {"type": "Conv2d", "out_channels": 6, "kernel_size": 3},
    "BatchNorm2d",
    "GlobalAvgPool",
    {"type": "Linear", "out_features": 3},
]
GROUPS = ({"match": ["*.bias"], "lr_scale": 2.0, "weight_decay": 0.0, "momentum": 0.5},)
SETTINGS = {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01, "param_groups": GROUPS}
N, BATCH = 25, 11  # two batches an epoch, three samples left over, and no whole share for 2 or 4 processes


def samples(device):
    draws = torch.Generator().manual_seed(5)
    x = torch.randn(N, 3, 8, 8, generator=draws, dtype=torch.float64) * 2 + 3
    return x.to(device), torch.randint(3, (N,), generator=draws).to(device)


class Trained:
    """A small net after some steps on `world`, which may be one process; also its state and its results."""

    def __init__(self, world, kind=SGD, loss=CrossEntropyLoss(0.1), norm="sync", frozen=(), mb=0.001,
                 wire=None, epochs=1, skip=False, poison=None, state=None, batch=BATCH):  # fmt: skip
        torch.manual_seed(3)
        self.net = build(LAYERS, (3, 8, 8))[0].to(world.device, torch.float64)
        if norm == "sync":
            synchronize(self.net, world)
        x, y = samples(world.device)
        if isinstance(loss, MSELoss):
            y = torch.nn.functional.one_hot(y, 3).double()
        backward = None
        if kind is ShardedSGD:
            reducer = Scatterer(self.net.params, world, mb, wire)
            self.optimizer = ShardedSGD(reducer, maximize=loss.maximize, **SETTINGS)
        else:
            reducer = Reducer(self.net.params, world, mb, wire)
            self.optimizer = kind(self.net.params, maximize=loss.maximize, **SETTINGS)
        for w in self.net.params.values() if state else ():
            w.mul_(1.1)  # as a checkpoint would
        if state and kind is ShardedSGD:
            self.optimizer.load(state)
        for name, v in self.optimizer.state().items() if state and kind is not ShardedSGD else ():
            v.copy_(state[name])
        rows = world.count(batch)
        if world.size > 1:
            statistics = local_statistics(self.net)
            assert bool(statistics) == (norm == "local")
            backward = Backward(reducer, weight(loss, rows, batch), rows / batch, statistics)
        self.guard = Guard("skip", world.device, *([world.all_true] if kind is ShardedSGD else []))
        step = train_step(self.net, loss, self.optimizer, skip, self.guard, backward)
        self.results, self.scores = [], torch.full((N,), -1.0, device=world.device)
        counts = torch.linspace(0.5, 2, N, dtype=torch.float64, device=world.device)
        for epoch in range(epochs):
            plan = sampler.EpochPlan(
                torch.randperm(N, generator=sampler.epoch_generator(0, epoch)).to(world.device)
            )
            bad = plan.order[batch - 1] if poison == epoch else -1  # in the last process's rows
            plan = rank_part(plan, batch, world)
            seen = torch.zeros(N, dtype=torch.bool, device=world.device)
            for i in range(N // batch):
                which = plan.batch(i * rows, (i + 1) * rows).order
                xs = x[which]
                xs[which == bad] = torch.inf
                weights = counts[which] if skip else None
                result = step(xs, y[which], 0.5, weights, frozenset(frozen))
                if skip:
                    self.scores[which] = result.scores
                seen[which] = True
                self.results.append(torch.stack([t.double() for t in result[:3]]))
            world.merge(self.scores, seen)

    def kept(self) -> dict:
        """Parameters, statistics and momentum by name."""
        return {**self.net.params, **self.net.buffers, **self.optimizer.state()}


def near(a, b, what, tolerance=CLOSE):
    a, b = a.double().cpu(), b.double().cpu()
    assert a.shape == b.shape, what
    off = torch.where(a.isnan() & b.isnan(), 0, a - b).abs().max().item() if a.numel() else 0.0
    assert off <= tolerance, f"{what}: off by {off:.1e}"


def same_as_one(world, **options):
    """After several steps everything is as one process makes it of the whole batches: returns that one's run
    (the first process's alone) and this one's."""
    many, one = Trained(world, **options), None
    kept = many.kept()  # a sharded one's is whole on the first process alone
    same_on_all(world, many.net.params | many.net.buffers)
    if world.is_main:
        alone = {"kind": SGD} if options.get("kind") is ShardedSGD else {}
        one = Trained(World(device=world.device), **options | alone)
        for i, (a, b) in enumerate(zip(one.results, many.results, strict=True)):
            near(a, b, f"loss, num_correct and ok of step {i}")
        assert one.kept().keys() == kept.keys()
        for name, t in one.kept().items():
            near(kept[name], t, name)
    return one, many


def same_on_all(world, tensors):
    """To the last bit."""
    for name, t in tensors.items():
        every = world.gather(t.double().reshape(1, -1), world.size)
        assert (every == every[0]).all(), f"{name} isn't the same on all ranks"


def momentum(world):
    _, many = same_as_one(world, epochs=2)
    same_on_all(world, many.kept())
    start = Trained(World(device=world.device), epochs=0).kept()
    for name, t in many.kept().items():
        assert name.endswith("bias") or not torch.equal(t, start[name]), f"{name} is as it was at the start"


def even_batches(world):
    same_as_one(world, batch=8)


def one_bucket(world):
    same_as_one(world, mb=4.0)


def other_losses(world):
    for loss in (CrossEntropyLoss(0.1, "sum"), MSELoss(), MSELoss("sum"), Performance()):
        same_as_one(world, loss=loss)


def muon(world):
    same_as_one(world, kind=Muon)


def frozen_layers(world):
    frozen = {"0.weight", "0.bias", "1.weight", "1.bias"}
    _, many = same_as_one(world, frozen=frozen, mb=4.0)
    start = Trained(World(device=world.device), epochs=0).net.params
    same = {name for name, w in many.net.params.items() if torch.equal(w, start[name])}
    # a bias before a norm has no gradient but rounding
    assert frozen <= same and {name for name in same if "weight" in name} <= frozen


def chosen_samples(world):
    """Samples that count for more or less than one, and what each has taught."""
    one, many = same_as_one(world, skip=True)
    same_on_all(world, {"scores": many.scores})
    assert (many.scores < 0).sum() == N - 2 * BATCH
    if one:
        near(many.scores, one.scores, "scores", 1e-6)  # in float32


def not_finite(world):
    """A picture that isn't finite, on one process, keeps all of them from that step."""
    _, many = same_as_one(world, poison=1, epochs=2)
    assert int(many.guard.skipped) == 1 and not many.results[2][0].isfinite()
    for kind in (SGD, ShardedSGD):
        many = Trained(world, kind=kind, norm="local", poison=1, epochs=2)
        same_on_all(world, many.net.params | many.net.buffers)
        kept = {"results": torch.stack(many.results)[[0, 1, 3]], **many.kept()}
        assert int(many.guard.skipped) == 1 and all(t.isfinite().all() for t in kept.values())


def sharded(world):
    _, many = same_as_one(world, kind=ShardedSGD)
    mine = torch.tensor([sum(p.numel() for p in many.optimizer.velocity.values())])
    every = world.gather(mine, world.size)
    whole = sum(p.numel() for p in many.net.params.values())
    assert every.sum() == whole
    assert every.max() <= whole / world.size + len(many.optimizer.scatterer.buckets)
    rough = Trained(world, kind=ShardedSGD, wire=torch.bfloat16)
    same_on_all(world, rough.net.params)
    off = max((many.net.params[name] - w).abs().max().item() for name, w in rough.net.params.items())
    assert 1e-6 < off < 2e-2, off


def pieces_are_judged_together(world):
    """An infinite gradient in one process's piece alone."""
    many = Trained(world, kind=ShardedSGD, epochs=0)
    reducer, guard = many.optimizer.scatterer, many.guard
    for bad in (False, True):
        grads = {name: torch.zeros_like(w) for name, w in many.net.params.items()}
        grads["0.weight"].view(-1)[-1] = torch.inf if bad else 0.0
        reducer.take(grads)
        pieces, _ = reducer.finish()
        assert guard.check(torch.zeros(()), [*pieces.values()]) != bad
    assert guard.skipped == 1
    mine = sum(int(g.isinf().sum()) for g in pieces.values())
    assert world.sum(torch.tensor([mine])) == 1


def sharded_goes_on(world):
    """One process's momentum, taken up by many, and the other way round."""
    state = [Trained(world, kind=ShardedSGD).optimizer.state()]
    dist.broadcast_object_list(state)
    moved = {name: v.to(world.device) for name, v in state[0].items()}
    assert [*moved] == [*Trained(World(device=world.device), epochs=0).optimizer.state()]
    same_as_one(world, kind=ShardedSGD, state=moved)
    try:
        Trained(world, kind=ShardedSGD, state={**moved, "velocity.8.bias": torch.zeros(7)})
    except CheckpointError as e:
        assert "velocity.8.bias" in str(e)
    else:
        raise AssertionError("a state of another net was taken")


def local_norms(world):
    """Each process's own statistics in the step; afterwards all have the same, their mean."""
    many = Trained(world, norm="local")
    same_on_all(world, many.kept())
    one = Trained(World(device=world.device), norm="local", batch=23)
    many = Trained(world, norm="local", batch=23)
    near(many.net.buffers["1.running_mean"], one.net.buffers["1.running_mean"], "the first mean")
    far = (many.net.buffers["1.running_var"] - one.net.buffers["1.running_var"]).abs().max()
    assert CLOSE < far < 0.1


def bfloat16_on_the_wire(world):
    fine, rough = Trained(world), Trained(world, wire=torch.bfloat16)
    same_on_all(world, rough.kept())
    off = max((fine.kept()[name] - t).abs().max().item() for name, t in rough.kept().items())
    assert 1e-6 < off < 2e-2, off


def norm_against_autograd(world):
    """Of the whole batch, in float64: y, dx, dγ and dβ, and the running statistics."""
    for affine in (True, False):
        torch.manual_seed(7)
        x, dy = (torch.randn(7, 3, 4, 5, dtype=torch.float64, device=world.device) for _ in range(2))
        x = x * 2 + 5
        plain = BatchNorm2d(3, affine=affine).to(world.device, torch.float64)
        for p in plain.params.values():
            p.copy_(torch.randn(3))
        mine, layer = world.share(7), SyncBatchNorm2d(plain, world)
        mean, var = (b.clone() for b in layer.buffers.values())
        y, saved = layer.forward(x[mine])
        dx, grads = layer.backward(saved, dy[mine])
        again = layer.backward(saved, dy[mine])[0]
        assert torch.equal(dx, again)
        wx = x.clone().requires_grad_()
        wp = [p.clone().requires_grad_() for p in plain.params.values()]
        wy = torch.nn.functional.batch_norm(wx, mean, var, *(wp or (None, None)), True, 0.1, plain.eps)
        wdx, *wgrads = torch.autograd.grad(wy, [wx, *wp], dy)
        near(y, wy[mine].detach(), "y", 1e-12)
        near(dx, wdx[mine], "dx", 1e-12)
        for (name, g), w in zip(grads.items(), wgrads, strict=True):
            near(world.sum(g.clone()), w, name, 1e-12)
        for b, wanted in zip(layer.buffers.values(), (mean, var)):
            near(b, wanted, "running statistics", 1e-12)
        layer.eval()
        y, saved = layer.forward(x[mine])
        near(y, plain.eval().forward(x)[0][mine], "evaluated", 0)
        dx = plain.backward(plain.forward(x)[1], dy)[0]
        near(layer.backward(saved, dy[mine])[0], dx[mine], "its dx", 0)


def norm_far_from_zero(world):
    """float32 with a mean of ten thousand deviations: the variance isn't lost."""
    torch.manual_seed(7)
    x = (torch.randn(8, 2, 16, 16, dtype=torch.float64) + 1e4).to(torch.float32).to(world.device)
    x[: len(x) // 2] += 1
    mean, var, m = SyncBatchNorm2d(BatchNorm2d(2).to(world.device), world)._moments(x[world.share(8)])
    near(var / x.double().var((0, 2, 3), correction=0).float(), torch.ones(2), "variance", 1e-3)
    assert m == x.numel() / 2


def together(world):
    n = 2 * world.size + 1
    x = torch.arange(3 * n, device=world.device).view(n, 3)
    assert torch.equal(world.gather(x[world.share(n)], n), x)
    assert torch.equal(world.map_shares(lambda some: x[some] * 2, n), x * 2)
    assert torch.equal(world.map_shares(lambda some: x[some][:1], 1), x[:1])
    mine = torch.tensor([world.rank], device=world.device)
    assert world.sum(mine.clone()) == sum(range(world.size))
    assert not world.all_true(mine != 1) and world.all_true(mine >= 0)
    assert world.max(world.rank, -world.rank) == [world.size - 1, 0]
    w = torch.full((2, 3), float(world.rank), device=world.device).T
    world.broadcast([w])
    assert (w == 0).all()
    values = torch.full((world.size + 1,), torch.inf, device=world.device)
    values[world.rank] = world.rank
    world.merge(values, torch.arange(world.size + 1, device=world.device) == world.rank)
    assert values.tolist() == [*range(world.size), torch.inf]


def one_goes_first(world):
    with tempfile.TemporaryDirectory() as folder:
        place = [folder]
        dist.broadcast_object_list(place)
        file = Path(place[0]) / "there"
        with world.local_main_first():
            assert file.exists() == (world.rank > 0)
            time.sleep(0.1)
            file.touch()
        world.barrier()


def agreement(world):
    """All speak at the same steps, about as often as is asked for, and what one says all hear at once."""
    agree, heard, begin = Agreement(world, seconds=0.02), {}, time.perf_counter()
    for step in range(1, 200):
        time.sleep(0.001 * (1 + world.rank % 2))  # clocks that go apart
        said = agree(step, step > 90 and world.rank == world.size - 1, False, now=step == 100)
        if said:
            heard[step] = said
    steps = world.gather(torch.tensor([[*heard] + [0] * (200 - len(heard))]), world.size)
    assert (steps == steps[0]).all() and 100 in heard
    assert 5 < len(heard) < 20 + 2 * (time.perf_counter() - begin) / 0.02, len(heard)
    assert all(said == (step > 90, False) for step, said in heard.items())


CHECKS = [
    *(together, one_goes_first, agreement, momentum, even_batches, one_bucket, other_losses, muon),
    *(frozen_layers, chosen_samples, not_finite, sharded, pieces_are_judged_together),
    *(sharded_goes_on, local_norms, bfloat16_on_the_wire, norm_against_autograd, norm_far_from_zero),
]


def checks(device, results: Path):
    """One of the processes that run all checks; where one fails the rest don't run."""
    with cli.one_line_errors(), watched(join(device)) as world, open(results, "w") as file:
        for check in CHECKS:
            try:
                check(world)
            except Exception:
                file.write(json.dumps([check.__name__, traceback.format_exc()]) + "\n")
                raise
            file.write(json.dumps([check.__name__, "ok"]) + "\n")


def dying(device, victim, how, grace=5.0):
    """One of the processes of a run in which something happens to rank `victim` after some steps."""
    with cli.one_line_errors():
        asked = []
        with watched(join(device), grace) as world:
            if how == "stopped":
                signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
            agree, x = Agreement(world, 0.05), torch.ones(1000, device=world.device)
            for step in range(100_000):
                world.sum(x.fill_(1))
                if step == 20 and world.rank == victim:
                    if how == "data":
                        raise DataError("picture.png: damaged")
                    os.kill(os.getpid(), signal.SIGTERM if how == "stopped" else signal.SIGKILL)
                if step == 20 and how == "standing":
                    time.sleep(60)
                if (agree(step, bool(asked)) or [False])[0]:
                    time.sleep(0.3 * world.is_main)  # it writes a checkpoint
                    raise Stopped(signal.SIGTERM, f" at step {step}")
                time.sleep(0.001)


# processes, the one to which it happens, what, is there an agent that tells the others to end?
DEATHS = [
    *((2, victim, "killed", True) for victim in range(2)),
    *((4, victim, "killed", victim % 2 == 0) for victim in range(4)),
    *((3, victim, "standing", True) for victim in (0, 1)),
    *((3, 1, "data", True), (3, 1, "stopped", True), (2, 0, "no agent", False), (2, 1, "no agent", False)),
]


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


def main(device="cpu"):
    torch.set_num_threads(1)
    found, results_of = {"checks": {}, "deaths": {}}, defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for size in (2, 4) if device == "cpu" else (2,):
            results = [Path(folder) / f"{size}.{rank}" for rank in range(size)]
            codes, lines, _ = fork(size, lambda rank: checks(device, results[rank]), agent=False)
            for rank, file in enumerate(results):
                for name, result in map(json.loads, file.read_text().splitlines() if file.exists() else ()):
                    if result != "ok" or rank == 0:
                        results_of[f"{size} {name}"].append(
                            result if result == "ok" else f"rank {rank}: {result}"
                        )
            for check in (f"{size} {check.__name__}" for check in CHECKS):
                bad = [result for result in results_of[check] if result != "ok"]
                found["checks"][check] = "\n".join(bad) or (results_of[check] or ["didn't run"])[0]
            found["checks"][f"{size} end"] = "ok" if codes == [0] * size else f"{codes} {lines}"
    for size, victim, how, agent in DEATHS:
        grace = 1.0 if how == "standing" else 5.0
        work = lambda rank: dying(device, victim, how, grace)  # noqa: E731
        found["deaths"][f"{size} {victim} {how}"] = fork(size, work, agent, alone=how == "no agent")
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
