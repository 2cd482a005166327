"""Parameter groups: settings for the parameters whose names match a pattern."""

import math
from fnmatch import fnmatch

from nets.common.errors import nearest
from nets.common.ranges import RangeError, check_range, shown


def group_of(name: str, groups) -> dict:
    """The first group with a pattern in `match` that fits the parameter's name, or {}."""
    return next((g for g in groups if any(fnmatch(name, m) for m in g["match"])), {})


# The settings of an optimizer and their ranges, also those of a config's [train].
RANGES = {"lr": {"over": 0}, "momentum": {"least": 0, "most": 1}, "weight_decay": {"least": 0}}
# The keys of a group beside `match`. `lr_scale` multiplies lr.
GROUP_RANGES = {"lr_scale": {"least": 0}, "until_epoch": {"least": 0}}
GROUP_RANGES |= {key: RANGES[key] for key in ("momentum", "weight_decay")}


def check_settings(**settings):
    """RangeError, a ValueError, for a setting of RANGES that is out of range."""
    for name, value in settings.items():
        check_range(value, name, **RANGES[name])


def check_groups(groups, where: str = "param_groups"):
    """RangeError for a group without patterns, with a key that no group has, or a value out of range."""
    for i, group in enumerate(groups):
        place = f"{where}[{i}]"
        if not isinstance(group, dict):
            raise RangeError(f"{place}: expected a table, got {shown(group)}")
        for key, value in group.items():
            if key not in GROUP_RANGES and key != "match":
                raise RangeError(f"{place}.{key}: unknown key{nearest(key, ['match', *GROUP_RANGES])}")
            if key != "match":
                check_range(value, f"{place}.{key}", **GROUP_RANGES[key])
        match = group.get("match")
        if not isinstance(match, (list, tuple)) or not match or not all(isinstance(m, str) for m in match):
            raise RangeError(f'{place}.match: a group needs name patterns, such as ["*.bias"]')


def check_nesterov(nesterov: bool, momentum: float, groups, where: str = ""):
    """RangeError for Nesterov momentum where no parameter has any momentum."""
    if nesterov and not momentum and not any(group.get("momentum") for group in groups):
        raise RangeError(f"{where}nesterov: needs a momentum")


def frozen_names(names, groups, epoch: float) -> frozenset[str]:
    """The names whose group has `until_epoch` ≤ epoch: these parameters are no longer trained."""
    return frozenset(n for n in names if group_of(n, groups).get("until_epoch", math.inf) <= epoch)
