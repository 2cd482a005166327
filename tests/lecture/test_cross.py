"""The claims at reduced size: a test fails when its claim is broken."""

import torch

from nets.lecture.cross import cross, symmetry


def test_the_symmetry_claim_holds():
    found = symmetry(starts=40, passes=1500)
    assert found.held
    assert found.figures["largest_difference_of_equal_nodes"] == 0


def test_the_symmetry_claim_fails_with_the_smallest_difference():
    found = symmetry(starts=10, passes=100, equal=lambda t: t[:, :1, :1] + 1e-9 * torch.randn_like(t))
    assert not found.held


def test_the_cross_claim_holds():
    found = cross(starts=6, passes=600)
    assert found.held, found.figures["tasks_learned"]
    assert found.figures["tasks_learned"]["without"] == found.figures["tasks_of_own_input_alone"] == 16
    adder = found.figures["half_adder_median_error"]
    assert adder["without"][-1] > 0.4 > adder["with"][-1]


def test_the_cross_claim_fails_without_links():
    assert not cross(starts=3, passes=300, links=False).held
