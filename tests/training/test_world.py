"""The World of one process: shares of any number of processes, and collectives that change nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nets.training.world import World


@given(st.integers(0, 60), st.integers(1, 9))
def test_shares_are_complete_disjoint_and_even(n, size):
    worlds = [World(rank, size) for rank in range(size)]
    assert [i for world in worlds for i in range(n)[world.share(n)]] == [*range(n)]
    counts = [world.count(n) for world in worlds]
    assert sum(counts) == n and max(counts) - min(counts) <= 1
    assert [worlds[0].share(n, rank) for rank in range(size)] == [world.share(n) for world in worlds]


def test_collectives_of_one_process_change_nothing():
    world, x = World(), torch.arange(4.0)
    assert world.is_main and world.max(3, -1) == [3, -1]
    for result in (
        world.sum(x),
        world.gather(x, 4),
        world.merge(x, x > 1),
        world.map_shares(lambda rows: x[rows], 4),
    ):
        assert torch.equal(result, torch.arange(4.0))
    assert world.all_true(torch.tensor(True)) and not world.all_true(torch.tensor(False))
    world.broadcast([x])
    world.barrier()
    with world.local_main_first():
        assert torch.equal(x, torch.arange(4.0))


def test_one_process_agrees_at_every_step():
    agree = World().agreement()
    assert agree(1, 1, False) == (True, False) and agree(2, now=True) == ()


def test_one_process_has_the_optimizer_that_it_makes():
    made = object()
    assert World().prepare(None, None, None, 8, lambda: made) == (made, None)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_main_process_is_rank_0(rank):
    assert World(rank, 2).is_main == (rank == 0)
