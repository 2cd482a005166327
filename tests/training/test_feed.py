"""Each process's part of an epoch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nets.common.errors import UsageError
from nets.data import sampler
from nets.training import config, validate
from nets.training.feed import rank_part
from nets.training.world import World

DIGITS = config.load("digits")


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 20))
def test_shares_are_complete_disjoint_and_even(n, size, batch):
    worlds = [World(rank, size) for rank in range(size)]
    counts = [w.share(n).stop - w.share(n).start for w in worlds]
    assert [i for w in worlds for i in range(n)[w.share(n)]] == [*range(n)]
    assert max(counts) - min(counts) <= 1
    if batch < size:
        with pytest.raises(UsageError, match="train.batch_size"):
            validate.check(DIGITS, batch=batch, processes=size)
        return
    validate.check(DIGITS, batch=batch, processes=size)
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
