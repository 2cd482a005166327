"""The claims at reduced size: a test fails when its claim is broken."""

from nets.lecture.approximator import approximator


def test_the_approximator_claim_holds():
    found = approximator(steps=1200)
    assert found.held, found.table
