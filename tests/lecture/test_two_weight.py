"""The claims at reduced size: a test fails when its claim is broken."""

from nets.lecture.two_weight import two_weight


def test_the_two_weight_claim_holds():
    assert two_weight(draws=20).held
