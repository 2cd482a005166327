"""The claims at reduced size: a test fails when its claim is broken."""

import pytest

from nets.lecture.adapting import adaptive_rate


def test_the_adaptive_rate_claim_holds():
    found = adaptive_rate(
        starts=200, rates=(0.005, 0.5, 500.0), fixed=(5.0, 12.6, 19.9, 31.5, 50.0), cap=1000
    )
    assert found.held, found.table


def test_the_adaptive_rate_claim_fails_when_the_rate_hardly_adapts():
    found = adaptive_rate(starts=50, rates=(0.005,), fixed=(19.9,), cap=300, shrink=0.999, grow=1.001)
    assert not found.held


@pytest.mark.parametrize("seed", [2, 4, 6])  # at full size these seeds once lost a start on a plateau
def test_adaptive_rate_loses_no_start(seed):
    found = adaptive_rate(seed, rates=(0.0158, 50.0), fixed=(19.9,), cap=1000)
    assert found.figures["failed_where_best_fixed_did_not"] == 0
