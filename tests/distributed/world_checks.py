"""Checks of what several processes exchange, each a function of their World."""

import contextlib
import dataclasses
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist

from nets.common.errors import DataError, UsageError
from nets.data import datasets
from nets.distributed.agree import Agreement
from nets.distributed.sync_norm import SyncBatchNorm2d
from nets.layers.norm import BatchNorm2d
from nets.training import config, make
from tests.distributed.trained import near


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


def unequal_ranks_are_found(world):
    last = world.size - 1
    assert world.differing("ab" * 32) == []
    assert world.differing(("ab" if world.rank < last else "ac") * 32) == [last]
    conf = config.load("digits")
    make.parts(conf, world.device, world)
    load = datasets.load

    def other_labels(*args):
        data = load(*args)
        return dataclasses.replace(data, train_y=data.train_y.flip(0)) if world.rank == last else data

    def fewer(*args):
        data = load(*args)
        share = slice(0, len(data.train_y) - (world.rank == last))
        return dataclasses.replace(data, train_x=data.train_x[share], train_y=data.train_y[share])

    try:
        for datasets.load in (other_labels, fewer):
            with raises(
                DataError, f"not the same samples and labels on all processes; rank {last} has others"
            ):
                make.parts(conf, world.device, world)
    finally:
        datasets.load = load
    with raises(UsageError, f"config: not the same on all processes; rank {last} has another than rank 0"):
        make.parts(dataclasses.replace(conf, seed=int(world.rank == last)), world.device, world)


@contextlib.contextmanager
def raises(kind, words: str):
    try:
        yield
    except kind as e:
        assert words in str(e), e
    else:
        raise AssertionError(f"no {kind.__name__}")


CHECKS = [
    unequal_ranks_are_found,
    together,
    one_goes_first,
    agreement,
    norm_against_autograd,
    norm_far_from_zero,
]
