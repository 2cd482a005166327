"""Slopes of a forward by finite differences."""

import pytest
import torch

from nets.gradcheck.differences import slopes, unit


def test_slopes_are_those_on_both_sides_and_the_tensor_is_put_back():
    t = torch.tensor([0.0, 3.0], dtype=torch.float64)
    value = lambda: (t[0].abs() + t[1] ** 2).item()  # noqa: E731
    found = slopes(value, t, unit(t, 0), 1e-6)
    assert found.left == pytest.approx(-1) and found.right == pytest.approx(1)
    found = slopes(value, t, unit(t, 1), 1e-6)
    assert found.left == pytest.approx(6, rel=1e-5) == found.right
    assert t.tolist() == [0.0, 3.0]


def test_a_term_that_is_not_finite_is_left_out():
    t = torch.tensor([2.0, 3.0], dtype=torch.float64)
    terms = lambda: torch.stack([t[0] ** 2, t[1] - torch.inf, t[1]])  # noqa: E731
    assert slopes(terms, t, unit(t, 0), 1e-6).central == pytest.approx(4)
    assert slopes(lambda: t * torch.nan, t, unit(t, 0), 1e-6) is None


def test_unit_is_one_at_a_place_counted_in_row_order():
    t = torch.zeros(2, 3).T
    direction = unit(t, 1)
    assert direction.shape == t.shape and direction[0, 1] == 1 and direction.sum() == 1
