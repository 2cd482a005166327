"""What is due after a step; flags of several processes."""

import signal
import time
from types import SimpleNamespace

import pytest

from nets.common.errors import Stopped
from nets.training import config
from nets.training.hooks import Due, StopHook


def run_of(agree, epochs: int = 3):
    """What Due reads of a run, whose processes agree by `agree`."""
    run = SimpleNamespace(
        config=config.load("digits", [f"train.epochs={epochs}"]),
        world=SimpleNamespace(size=2, agreement=lambda: agree),
        saver=SimpleNamespace(saved_at=time.perf_counter()),
        progress=SimpleNamespace(epoch=1),
        at=lambda: 7,
    )
    run.due = Due(run)
    return run


def only_at_the_ends_of_epochs(step, *flags, now=False):
    return tuple(map(bool, flags)) if now else None


def test_a_signal_that_is_agreed_on_at_an_epochs_end_stops_the_run():
    """As with short epochs: no other exchange comes before the next end."""
    run = run_of(only_at_the_ends_of_epochs)
    run.due.signals.number = signal.SIGTERM
    run.due.after_step(run)
    StopHook().after_step(run)
    run.due.update(run, now=True)
    with pytest.raises(Stopped) as e:
        StopHook().after_epoch(run, {})
    assert e.value.code == 143
    run.due.after_step(run)
    with pytest.raises(Stopped):
        StopHook().after_step(run)


def test_after_the_last_epoch_a_run_ends_with_its_result():
    run = run_of(only_at_the_ends_of_epochs, epochs=1)
    run.due.signals.number = signal.SIGINT
    run.due.update(run, now=True)
    StopHook().after_epoch(run, {})
    assert run.due.stop == signal.SIGINT
