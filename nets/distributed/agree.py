"""Steps at which the processes exchange flags, the same on all of them.

A signal reaches one process, and each process's clock reaches a limit at another step; but all must stop, or
write a checkpoint, at the same step. An exchange at every step would cost time, so they exchange now and
then: rank 0's clock decides how many steps there are until the next exchange.
"""

import time

from nets.training.world import World


class Agreement:
    """agree(step, *flags): None, or at an exchange, for each flag whether any rank has set it.

    seconds  between two exchanges, about. Flags are exchanged on the host: no device is waited for.

    Every rank calls it after every step. With now=True, passed at the same steps, there is an exchange.
    """

    def __init__(self, world: World, seconds: float = 0.5):
        self.world, self.seconds = world, seconds
        self.next, self.steps = 0, 1
        self.last: tuple[int, float] | None = None

    def __call__(self, step: int, *flags: bool, now: bool = False) -> tuple[bool, ...] | None:
        if step < self.next and not now:
            return None
        own = self._steps(step) if self.world.is_main else 0
        *found, steps = self.world.max(*map(int, flags), own)
        self.next = step + steps
        return tuple(map(bool, found))

    def _steps(self, step: int) -> int:
        """Steps until the next exchange, from the time of the last ones; at most twice as many as before."""
        here = time.perf_counter()
        if self.last is not None and step > self.last[0]:
            each = (here - self.last[1]) / (step - self.last[0])
            self.steps = max(1, min(2 * self.steps, round(self.seconds / max(each, 1e-9))))
        self.last = step, here
        return self.steps
