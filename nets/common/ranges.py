"""Ranges of settings: one check and one wording, for configs and for calls from Python."""

import json
import math
from typing import Any

from nets.common.errors import UsageError, nearest


class RangeError(UsageError, ValueError):
    """A setting that is out of its range."""


def check_range(value: Any, where: str, *, least=None, most=None, over=None, among=None):
    """RangeError, which begins with `where`, unless least <= value <= most and value > over, or one of among.

    A value with a range must be a finite number.
    """
    if among is not None and value not in among:
        raise RangeError(f"{where}: {shown(value)} is not one of its values{nearest(value, map(str, among))}")
    if least is None and most is None and over is None:
        return
    try:
        if isinstance(value, (bool, str)):
            raise TypeError
        number = value if type(value) is int else float(value)
    except (TypeError, ValueError, RuntimeError):
        raise RangeError(f"{where}: expected a number, got {shown(value)}") from None
    if not math.isfinite(number):
        raise RangeError(f"{where}: expected a finite number, got {value}")
    if least is not None and number < least:
        raise RangeError(f"{where}: must be at least {least}, got {value}")
    if over is not None and number <= over:
        raise RangeError(f"{where}: must be more than {over}, got {value}")
    if most is not None and number > most:
        raise RangeError(f"{where}: must be at most {most}, got {value}")


def shown(value: Any) -> str:
    """A value as messages show it, at most 60 characters."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) < 60 else text[:57] + "…"
