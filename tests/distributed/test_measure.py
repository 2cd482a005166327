"""The link and hop that are fitted to measured sums."""

import math

from nets.distributed import measure, plan
from nets.distributed.plan import Machine


def test_the_fit_finds_the_link_that_made_the_times():
    made = Machine(link=2.5e9, hop=40e-6)
    for n in (2, 4):
        link, hop = measure.fitted({size: plan.ring(size, n, made) for size in measure.SIZES}, n)
        assert math.isclose(link, 2.5e9, rel_tol=1e-6) and math.isclose(hop, 40e-6, rel_tol=1e-6)
