"""Parameter groups: which settings count for a parameter, and when it is frozen."""

import pytest
import torch

from nets.optim.param_groups import frozen_names, group_of
from nets.optim.sgd import SGD


def test_the_first_group_that_matches_sets_lr_momentum_and_weight_decay():
    params = {"0.weight": torch.ones(2), "0.bias": torch.ones(2), "1.bias": torch.ones(2)}
    groups = [
        {"match": ["1.*"], "lr_scale": 0.0},
        {"match": ["*.bias"], "lr_scale": 10.0, "weight_decay": 0.0, "momentum": 0.0},
    ]
    sgd = SGD(params, 0.01, momentum=0.9, weight_decay=1.0, param_groups=groups)
    sgd.step({k: torch.ones(2) for k in params})
    assert params["1.bias"][0] == 1  # the first group that matches counts
    assert params["0.bias"][0] == pytest.approx(0.9)
    assert params["0.weight"][0] == pytest.approx(1 - 0.01 * 2)
    assert list(sgd.velocity) == ["0.weight", "1.bias"]


def test_a_parameter_without_a_group_has_no_settings_of_its_own():
    groups = [{"match": ["*.bias", "0.*"], "lr_scale": 2.0}]
    assert group_of("3.bias", groups) is groups[0] and group_of("0.weight", groups) is groups[0]
    assert group_of("3.weight", groups) == {} and group_of("3.weight", ()) == {}


def test_parameters_are_frozen_from_their_groups_until_epoch_on():
    names = ["0.weight", "0.bias", "1.bias"]
    groups = [{"match": ["0.*"], "until_epoch": 2.5}, {"match": ["*.bias"], "lr_scale": 2.0}]
    assert frozen_names(names, groups, 2.4) == frozenset()
    assert frozen_names(names, groups, 2.5) == {"0.weight", "0.bias"} == frozen_names(names, groups, 9)
    assert frozen_names(names, (), 9) == frozenset()


@pytest.mark.parametrize(
    "group, problem",
    [
        ({"match": ["*"], "lr": 0.1}, r"param_groups\[0\]\.lr: unknown key"),
        ({"lr_scale": 0.1}, r"param_groups\[0\]\.match: a group needs name patterns"),
    ],
)
def test_an_optimizer_refuses_a_wrong_group(group, problem):
    with pytest.raises(ValueError, match=problem):
        SGD({"w": torch.zeros(1)}, lr=0.1, param_groups=[group])
