"""Parameter groups: settings for the parameters whose names match a pattern."""

import math
from fnmatch import fnmatch

from nets.common.errors import nearest


def group_of(name: str, groups) -> dict:
    """The first group with a pattern in `match` that fits the parameter's name, or {}."""
    return next((g for g in groups if any(fnmatch(name, m) for m in g["match"])), {})


KEYS = ("match", "lr_scale", "momentum", "weight_decay", "until_epoch")


def check_groups(groups):
    """ValueError for a group without patterns, or with a key that no group has."""
    for i, group in enumerate(groups):
        for key in group:
            if key not in KEYS:
                raise ValueError(f"param_groups[{i}].{key}: unknown key{nearest(key, KEYS)}")
        if not group.get("match"):
            raise ValueError(f'param_groups[{i}].match: a group needs name patterns, such as ["*.bias"]')


def frozen_names(names, groups, epoch: float) -> frozenset[str]:
    """The names whose group has `until_epoch` ≤ epoch: these parameters are no longer trained."""
    return frozenset(n for n in names if group_of(n, groups).get("until_epoch", math.inf) <= epoch)
