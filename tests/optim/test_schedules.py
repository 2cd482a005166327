"""Schedules: the multiple of lr over a run."""

import pytest

from nets.optim.schedules import SCHEDULES, lr_factor


def test_schedules_have_the_values_of_their_formulas():
    assert [lr_factor("constant", i, 4) for i in range(4)] == [1, 1, 1, 1]
    assert [lr_factor("linear", i, 4) for i in range(4)] == [1, 0.75, 0.5, 0.25]
    assert lr_factor("cosine", 2, 4) == pytest.approx(0.5)
    assert lr_factor("cosine", 1, 4) == pytest.approx(0.853553, abs=1e-6)
    assert [lr_factor("step", i, 8) for i in range(8)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3]
    )
    rates = [lr_factor("linear", i, 10, 4) for i in range(10)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:] == sorted(rates[5:], reverse=True) and rates[-1] == pytest.approx(1 / 6)


def test_a_schedule_never_falls_below_min_factor():
    rates = [lr_factor("linear", i, 10, min_factor=0.25) for i in range(11)]
    assert min(rates) == 0.25 == rates[-1] and rates[0] == 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_starts_at_one_and_takes_a_run_without_steps(name):
    assert lr_factor(name, 0, 10) == 1 == lr_factor(name, 0, 0) and SCHEDULES[name].__name__ == name
