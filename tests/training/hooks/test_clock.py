"""The clock of a run."""

import time

from nets.training.hooks import Clock


def test_paused_time_does_not_count_as_training():
    clock = Clock()
    clock.before_run(None)
    time.sleep(0.05)
    with clock.paused():
        time.sleep(0.3)
    assert 0.05 <= clock.tick() < 0.3
