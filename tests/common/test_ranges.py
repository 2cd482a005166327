"""Settings out of their ranges."""

import math

import pytest
import torch

from nets.common.ranges import RangeError, check_range, shown
from nets.losses import CrossEntropyLoss
from nets.optim.adaptive import Adaptive


@pytest.mark.parametrize(
    "value, rules, message",
    [
        (-1, {"least": 0}, "must be at least 0, got -1"),
        (0, {"over": 0}, "must be more than 0, got 0"),
        (2.5, {"most": 1}, "must be at most 1, got 2.5"),
        (math.nan, {"least": 0}, "expected a finite number, got nan"),
        (math.inf, {"over": 0}, "expected a finite number, got inf"),
        ("1", {"least": 0}, 'expected a number, got "1"'),
        (True, {"least": 0}, "expected a number, got true"),
        (None, {"most": 0}, "expected a number, got null"),
        (torch.ones(2), {"most": 5}, 'expected a number, got "tensor([1., 1.])"'),
        ("none", {"among": ("mean", "sum")}, '"none" is not one of its values; known: mean, sum'),
        ("sums", {"among": ("mean", "sum")}, '"sums" is not one of its values; did you mean "sum"?'),
    ],
)
def test_a_value_out_of_range_is_named(value, rules, message):
    with pytest.raises(RangeError) as e:
        check_range(value, "x.y", **rules)
    assert str(e.value) == f"x.y: {message}" and isinstance(e.value, ValueError)


@pytest.mark.parametrize("value", [0, 1, 0.5, torch.tensor(0.5), torch.tensor(1, dtype=torch.float64)])
def test_numbers_in_the_range_pass(value):
    check_range(value, "x", least=0, most=1)


def test_without_a_range_everything_passes():
    check_range(None, "x")


def test_long_values_are_shortened():
    assert shown("x" * 100) == '"' + "x" * 56 + "…"


@pytest.mark.parametrize(
    "name, wrong",
    [("lr", -1), ("lr", math.nan), ("shrink", 0), ("shrink", 2), ("grow", 0.5), ("max_ratio", math.nan)],
)
def test_the_adaptive_optimizer_checks_its_settings(name, wrong):
    with pytest.raises(ValueError, match=f"^{name}: "):
        Adaptive({"w": torch.ones(2)}, **({"lr": 0.1} | {name: wrong}))
    Adaptive({"w": torch.ones(2)}, 0.1, max_ratio=math.inf)


def test_a_loss_checks_its_settings_in_the_same_words():
    with pytest.raises(RangeError, match="^label_smoothing: must be at most 1, got 2$"):
        CrossEntropyLoss(2)
