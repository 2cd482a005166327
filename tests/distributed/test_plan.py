"""The model of a step on many GPUs."""

import pytest

from nets.distributed import plan
from nets.distributed.plan import Machine, Work

WORK = Work("three", ((1e6, 1e6), (0.0, 0.0), (2e6, 3e6)))
SLOW = Machine(rate=1e12, memory=1e12, link=1e9, hop=1e-5, wire=4)


def test_one_gpu_only_computes():
    found = plan.step(WORK, 1000, 1, SLOW)
    assert found.seconds == pytest.approx(6 * 3e6 * 1000 / 1e12 + 20 * 4e6 / 1e12)
    assert found.waits == found.sent == 0


def test_a_link_without_end_divides_the_work():
    fast = Machine(rate=1e12, memory=1e30, link=1e30, hop=0)
    times = [plan.step(WORK, 1024, n, fast).seconds * n for n in (1, 2, 16)]
    assert times == pytest.approx([times[0]] * 3)


def test_the_steps_end_by_hand():
    """Two buckets: the last layer's 12 MB are sent while the first's backward runs."""
    n, each = 4, 1000 / 4
    forward = 2 * 3e6 * each / 1e12
    last, first = (4 * p * each / 1e12 for p in (2e6, 1e6))
    sums = [2 * 3 / 4 * size / 1e9 + 2 * 3 * 1e-5 for size in (12e6, 4e6)]
    end = max(forward + last + sums[0], forward + last + first) + sums[1]
    found = plan.step(WORK, 1000, n, SLOW, bucket=12e6)
    assert found.seconds == pytest.approx(end + 20 * 4e6 / 1e12)
    assert found.waits == pytest.approx(end - (forward + last + first))
    assert found.sent == pytest.approx(2 * 3 / 4 * 16e6)
    late = plan.step(WORK, 1000, n, SLOW, bucket=12e6, overlap=False)
    assert late.seconds == pytest.approx(forward + last + first + sum(sums) + 20 * 4e6 / 1e12)
    assert plan.step(WORK, 1000, n, SLOW, bucket=1e9).seconds > found.seconds  # nothing is hidden
