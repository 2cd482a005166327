"""Random directions and halving find wrong entries, however few."""

import pytest
import torch

from nets.gradcheck.differences import TOLERANCE
from nets.gradcheck.locate import PROBES, Prober, wrong_entries


def entries(x, claimed, seed=0):
    t = x.clone()
    prober = Prober(lambda: t**2, t, claimed, 0.0, seed)
    return [i for i, _ in wrong_entries(prober, TOLERANCE)]


@pytest.mark.parametrize("seed", range(10))
def test_one_wrong_entry_of_many_is_found(seed):
    x = torch.randn(50, 40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[0, 0] = 1
    claimed = 2 * x
    assert entries(x, claimed, seed) == []
    claimed[0, 0] *= 1.5
    assert entries(x, claimed, seed) == [0]


@pytest.mark.parametrize("seed", range(10))
def test_a_wrong_block_is_found_at_its_place(seed):
    x = torch.randn(100, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    claimed = 2 * x
    claimed[40:49] *= 1.3
    found = entries(x, claimed, seed)
    assert found and all(320 <= i < 392 for i in found)


def test_the_search_ends_when_everything_is_wrong():
    x, calls = torch.randn(1000, dtype=torch.float64), []
    t = x.clone()
    prober = Prober(lambda: (calls.append(1), t**2)[1], t, 3 * x, 0.0, 0)
    assert wrong_entries(prober, TOLERANCE) and len(calls) < 60 * PROBES
