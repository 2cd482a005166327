"""The time that training takes."""

from __future__ import annotations

import contextlib
import time

from nets.common.device import resident_memory_mb
from nets.training.hooks.base import Hook


class Clock(Hook):
    """Seconds of training. Evaluating, saving and capturing graphs run in `paused` and don't count."""

    name = "clock"

    def __init__(self):
        self.seconds, self.since = 0.0, time.perf_counter()

    def before_run(self, run):
        self.since = time.perf_counter()

    def tick(self) -> float:
        """Add the time since the last tick; returns all seconds."""
        now = time.perf_counter()
        self.seconds, self.since = self.seconds + now - self.since, now
        return self.seconds

    @contextlib.contextmanager
    def paused(self):
        self.tick()
        try:
            yield
        finally:
            self.since = time.perf_counter()

    def times(self, run):
        seconds, samples = self.tick(), run.at() * run.feed.batch
        return {
            "seconds": round(seconds, 3),
            "per_second": round(samples / seconds, 1),
            "memory": resident_memory_mb(),
        }

    def after_run(self, run, facts):
        facts["seconds"] = round(self.seconds, 3)

    def state(self):
        return {"seconds": self.seconds}

    def load(self, state):
        seconds = state["seconds"]
        if type(seconds) not in (int, float) or not 0 <= seconds < 1e12:
            raise ValueError(f"{seconds!r} can't be seconds of training")
        self.seconds = float(seconds)
