"""Parameter groups: settings for the parameters whose names match a pattern."""

import math
from fnmatch import fnmatch


def group_of(name: str, groups) -> dict:
    """The first group with a pattern in `match` that fits the parameter's name, or {}."""
    return next((g for g in groups if any(fnmatch(name, m) for m in g["match"])), {})


def frozen_names(names, groups, epoch: float) -> frozenset[str]:
    """The names whose group has `until_epoch` ≤ epoch: these parameters are no longer trained."""
    return frozenset(n for n in names if group_of(n, groups).get("until_epoch", math.inf) <= epoch)
