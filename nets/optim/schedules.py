"""Schedules: the learning rate over a run, as a multiple of lr.

progress is the share of the run that is done: 0 at the start, 1 at the end.
"""

import math


def constant(progress: float) -> float:
    """The learning rate is constant."""
    return 1.0


def linear(progress: float) -> float:
    """The learning rate falls linearly to 0."""
    return 1.0 - progress


def cosine(progress: float) -> float:
    """The learning rate falls to 0 along half a cosine. Source: Loshchilov and Hutter 2016, "SGDR"."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def step(progress: float) -> float:
    """The learning rate is divided by 10 after each quarter of the run, three times in all.

    AlexNet's learning rate was also divided three times, whenever the validation error stopped falling.
    The paper doesn't give the epochs. Source: Krizhevsky, Sutskever and Hinton 2012, section 5.
    """
    return 0.1 ** int(4 * progress)


SCHEDULES = {f.__name__: f for f in (constant, linear, cosine, step)}


def lr_factor(schedule: str, step: int, steps: int, warmup: int = 0, min_factor: float = 0.0) -> float:
    """The multiple of lr at `step` of `steps`.

    It rises linearly to 1 over `warmup` steps and then follows the schedule, but never below `min_factor`.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(min_factor, SCHEDULES[schedule]((step - warmup) / max(1, steps - warmup)))
