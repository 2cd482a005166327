"""The claims at reduced size: a test fails when its claim is broken."""

from nets.lecture.rate import LECTURE, rate_constant


def test_the_rate_constant_claim_holds():
    found = rate_constant(starts=200, rates=(0.5, 5.0, 50.0), cap=4000)
    assert found.held, found.table
    assert found.figures["lecture_inside_band"] == [True] * 6
    assert set(found.figures["lecture"].values()) == set(LECTURE.values())


def test_a_rate_too_slow_for_the_cap_has_no_median():
    found = rate_constant(starts=20, rates=(0.05, 0.5, 5.0, 50.0, 500.0), cap=1500)
    assert found.figures["bands"]["0.05"]["median"] is None
    assert "At 0.05 the median is –" in " ".join(found.found)
