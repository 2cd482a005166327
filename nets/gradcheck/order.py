"""The order of the Taylor remainder: a judgement of a gradient that needs no step size.

For an objective f, a direction v and a claimed slope s, the remainder is

    R(h) = |f(x + hv) − f(x) − h·s|

If s is right, R falls as h²: it is h²·v'Hv/2 + O(h³). If s is off by e, R falls as h, because e·h exceeds h²
at last. So the exponent is 2 or more, or 1, whatever the function's scale. It is read from the smallest steps
at which R is larger than its own rounding.

Source: Farrell, Ham, Funke and Rognes 2013, "Automated derivation of the adjoint", section 4.1.
"""

import itertools
import math
from typing import NamedTuple

from torch import Tensor

from nets.gradcheck.differences import EPS, NOISE, Terms, rounding, term_values

STEPS = 13  # from the first step to √eps of it: where h² is as small as the rounding
LEVELS = 3  # ratios of neighbouring remainders whose median is the order
CLEAR = 10  # times its rounding: a remainder that is used


class Order(NamedTuple):
    """The exponent with which the remainder falls, and the error of the slope that it shows.

    exponent  infinite if every remainder is rounding; NaN if too few are larger
    error     the remainder of the smallest step that is used, divided by the step
    """

    exponent: float
    error: float

    @property
    def wrong(self) -> bool:
        """Whether the remainder falls like that of a wrong slope."""
        return self.exponent < 1.5


def order(
    terms: Terms, t: Tensor, direction: Tensor, claimed: float, unit: float = 1.0, eps: float = EPS
) -> Order:
    """The order of the remainder at t along a direction. t is restored.

    claimed  the slope in question
    unit     the largest step
    eps      the rounding of the terms
    """
    here, original = term_values(terms), t.clone()
    judged, ratio = here.isfinite(), eps ** (-0.5 / STEPS)
    measured = NOISE * rounding(terms, t, direction, unit, eps)
    clear: list[tuple[float, float]] = []  # step, remainder
    for k in range(1, STEPS + 1):
        h = unit / ratio**k
        t.copy_(original).add_(direction, alpha=h)
        change = (term_values(terms) - here)[judged]
        if not change.isfinite().all():
            clear = []
            continue
        remainder = abs(change.sum().item() - h * claimed)
        noise = NOISE * eps * (here[judged][change != 0].norm().item() + abs(h * claimed))
        if remainder > CLEAR * max(noise, measured):
            clear.append((h, remainder))
    t.copy_(original)
    if not clear:
        return Order(math.inf, 0.0)
    falls = [math.log(b / a) / math.log(g / h) for (g, b), (h, a) in itertools.pairwise(clear)][-LEVELS:]
    exponent = sorted(falls)[len(falls) // 2] if len(falls) == LEVELS else math.nan
    return Order(exponent, clear[-1][1] / clear[-1][0])
