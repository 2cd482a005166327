"""The claims at reduced size: a test fails when its claim is broken."""

from nets.lecture.rate import LECTURE, rate_constant


def test_the_rate_constant_claim_holds():
    found = rate_constant(starts=200, rates=(0.5, 5.0, 50.0), cap=4000)
    assert found.held, found.table
    assert found.figures["lecture_inside_band"] == [True] * 6
    assert set(found.figures["lecture"].values()) == set(LECTURE.values())
