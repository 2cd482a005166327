"""The claims at reduced size: a test fails when its claim is broken."""

from itertools import pairwise

import torch

from nets.lecture.hill import hill_climbing


def test_the_hill_climbing_claim_holds():
    found = hill_climbing(layers=(1, 2, 3), repeats=1)
    assert found.held
    assert [row[1] for row in found.table[1:]] == [8, 80, 728]
    for path in found.figures["paths"].values():  # always up
        assert all(a[2] < b[2] for a, b in pairwise(path))


def test_the_hill_climbing_claim_fails_for_another_direction():
    assert not hill_climbing(layers=(1, 2), repeats=1, direction=torch.sign).held
