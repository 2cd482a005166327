"""The measures of a step, for known operators."""

import pytest
import torch

from nets.bench import measure
from tests.bench.common import CPU


@pytest.mark.parametrize(
    "run, operators, floats",
    [
        (lambda a, b: a + b, 1, 300),
        (lambda a, b: a.mul_(2), 1, 200),
        (lambda a, b: a.copy_(b), 1, 200),
        (lambda a, b: a.zero_(), 1, 100),
        (lambda a, b: (a.view(4, 25).T, a.detach(), a[3:], torch.empty(9)), 0, 0),
        (lambda a, b: torch.zeros(()).expand(100) + b, 2, 1 + 1 + 200),
        (lambda a, b: torch.add(a, a, out=b), 1, 300),
        (lambda a, b: torch._foreach_mul_([a, b], 2.0), 1, 400),
    ],
    ids=["add", "in-place", "copy", "zero", "views", "expanded", "out", "foreach"],
)
def test_counts_of_known_operators(run, operators, floats):
    a, b = torch.zeros(100), torch.zeros(100)
    with measure.OperatorCounter() as counter:
        run(a, b)
    assert (counter.operators, counter.bytes) == (operators, 4 * floats)


def test_peak_tensor_bytes_of_known_operators():
    def step():
        a = torch.zeros(1000)
        b = a + 1
        del a
        return b * 2  # with b: 8,000 bytes at once, never three tensors

    assert 8000 <= measure.peak_tensor_bytes(measure.profile_step(step, CPU)) < 8100
