"""Steps at which the processes speak to one another, the same on all of them.

A signal reaches one process, a clock strikes on each at another step; but all have to stop, or write
a checkpoint together, at the same step. To ask at each would cost time, so they ask now and then:
rank 0's clock says how many steps it is until the next time.
"""

import time

from nets.training.world import World


class Agreement:
    """agree(step, *flags): None, or where they speak, for each flag whether any rank has set it.

    seconds  between two such steps, about. What is said is said on the host: no device is waited for.

    Every rank calls it after every step, and with now=True, at the same steps, to speak there in any case.
    """

    def __init__(self, world: World, seconds: float = 0.5):
        self.world, self.seconds = world, seconds
        self.next, self.last, self.steps = 0, None, 1

    def __call__(self, step: int, *flags: bool, now: bool = False) -> tuple[bool, ...] | None:
        if step < self.next and not now:
            return None
        *found, steps = self.world.max(*map(int, flags), self._steps(step) if self.world.is_main else 0)
        self.next = step + steps
        return tuple(map(bool, found))

    def _steps(self, step: int) -> int:
        """Steps to go on for, by the time that the last ones took; at most twice as many as before."""
        here = time.perf_counter()
        if self.last is not None and step > self.last[0]:
            each = (here - self.last[1]) / (step - self.last[0])
            self.steps = max(1, min(2 * self.steps, round(self.seconds / max(each, 1e-9))))
        self.last = step, here
        return self.steps
