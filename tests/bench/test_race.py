"""The race: it finds a form that trains another net."""

import math

import pytest

from nets.bench import race
from nets.common.errors import MismatchError, NonFiniteError
from nets.layers.activations import Sigmoid
from tests.bench.common import command


def test_a_form_with_other_losses_is_a_mismatch():
    right = [2.3, 2.2, 2.1]
    race.compare({"manual": right, "autograd": [2.3, 2.2001, 2.0998]}, 2e-3)
    with pytest.raises(
        MismatchError,
        match=r"autograd-compiled and manual .*: in step 3 the loss of autograd-compiled is 2\.3,",
    ):
        race.compare({"manual": right, "autograd": right, "autograd-compiled": [2.3, 2.2, 2.3]}, 2e-3)
    with pytest.raises(MismatchError, match=r"autograd .* step 2"):  # half the rate
        race.compare({"manual": [2.3, 2.28], "autograd": [2.3, 2.29]}, 2e-3)
    with pytest.raises(NonFiniteError, match="manual: the loss became nan in 3 steps"):
        race.compare({"manual": [2.3, 2.2, math.nan]}, 2e-3)


def test_a_wrong_backward_is_a_mismatch(in_process, monkeypatch):
    monkeypatch.setattr(Sigmoid, "backward", lambda self, y, dy: (dy * y * (1 + y), {}))
    with pytest.raises(MismatchError, match="autograd and manual train differently") as e:
        command("cross", "--forms", "manual,autograd", "--rounds", 1)
    assert e.value.code == 6
