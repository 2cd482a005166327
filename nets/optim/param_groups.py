"""Parameter groups: which settings count for a parameter, by patterns of its name."""

import math
from fnmatch import fnmatch


def group_of(name: str, groups) -> dict:
    """The first group that a parameter's name matches."""
    return next((g for g in groups if any(fnmatch(name, m) for m in g["match"])), {})


def frozen_names(names, groups, epoch: float) -> frozenset[str]:
    """The parameters whose group ends at or before this epoch: they are constants from then on."""
    return frozenset(n for n in names if group_of(n, groups).get("until_epoch", math.inf) <= epoch)
