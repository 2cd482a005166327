"""The claims at reduced size: a test fails when its claim is broken."""

from nets.layers.activations import ReLU
from nets.lecture.slope import performance, sigmoid
from nets.losses import Performance


def test_the_sigmoid_claim_holds():
    found = sigmoid(points=201)
    assert found.held and found.figures["step_flat_share"] == 1


def test_the_sigmoid_claim_fails_for_another_box():
    assert not sigmoid(points=201, box=ReLU).held


def test_the_performance_claim_holds():
    assert performance().held


class Doubled(Performance):
    def __call__(self, z, d):
        p, dz = super().__call__(z, d)
        return p, 2 * dz


def test_the_performance_claim_fails_with_a_wrong_slope():
    assert not performance(loss=Doubled).held
