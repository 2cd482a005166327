"""A signal asks a run to stop: it is noted when it comes, and obeyed between two steps, when all is whole."""

import signal
import threading

from nets.common.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """`with Stop() as stop`: SIGINT and SIGTERM only leave their number in `stop.number`.

    Nothing is raised where it would do harm: in the middle of a write, or while worker processes
    are forked. The same signal once more is obeyed at once, by whatever handled it before.
    """

    def __init__(self):
        self.number = 0

    def __enter__(self):
        here = threading.current_thread() is threading.main_thread()  # only there can handlers be set
        self.before = {s: signal.signal(s, self._note) for s in SIGNALS} if here else {}
        return self

    def __exit__(self, *_):
        for s, handler in self.before.items():
            signal.signal(s, handler)

    def _note(self, number, frame):
        if number == self.number:
            signal.signal(number, self.before[number])
            signal.raise_signal(number)
        self.number = self.number or number

    def check(self):
        """Stopped if a signal has come."""
        if self.number:
            raise Stopped(self.number)
