"""Signals that stop a run: stored when they arrive, handled between two steps."""

import signal
import threading

from nets.common.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """`with Stop() as stop`: SIGINT and SIGTERM only leave their number in `stop.number`.

    So no exception interrupts a write, or the forking of worker processes. A second signal of the same
    kind is handled at once, by the handler from before.
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
        """Stopped if a signal has arrived."""
        if self.number:
            raise Stopped(self.number)
