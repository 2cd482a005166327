"""Schedules: the learning rate over a run, as a multiple of lr. share is the part of the run that is over."""

import math


def constant(share: float) -> float:
    """The learning rate stays the same."""
    return 1.0


def linear(share: float) -> float:
    """Down to 0 in a straight line."""
    return 1.0 - share


def cosine(share: float) -> float:
    """Down to 0 along half a cosine. Source: Loshchilov and Hutter 2016, "SGDR"."""
    return 0.5 * (1 + math.cos(math.pi * share))


def step(share: float) -> float:
    """Cut by ten after each quarter of the run: three times in all.

    AlexNet's rate was cut so often, when the validation error stopped falling; the paper doesn't
    say when that was. Source: Krizhevsky, Sutskever and Hinton 2012, 5.
    """
    return 0.1 ** int(4 * share)


SCHEDULES = {f.__name__: f for f in (constant, linear, cosine, step)}


def lr_factor(schedule: str, step: int, steps: int, warmup: int = 0, least: float = 0.0) -> float:
    """The multiple of lr at `step` of `steps`: up to 1 over `warmup` steps, then down to `least`."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(least, SCHEDULES[schedule]((step - warmup) / max(1, steps - warmup)))
