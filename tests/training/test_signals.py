"""Signals that stop a run."""

import os
import signal

import pytest

from nets.common.errors import Stopped
from nets.training.signals import Stop


def test_a_second_signal_is_handled_at_once():
    with Stop() as stopper:
        stopper.check()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Stopped, match="interrupted"):
            stopper.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):  # the handler runs between two of Python's own steps
                pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
