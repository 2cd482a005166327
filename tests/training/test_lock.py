"""The lock of a run's folder."""

import os
import signal

import pytest

from nets.common.errors import UsageError
from nets.training import lock
from tests.training.ended_runs import make, run_of

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_a_folder_in_use_is_locked(tmp_path):
    """By another process, as a process can take its own lock again."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        with lock.locked(tmp_path):
            os.write(write, b"x")
            signal.pause()
    os.read(read, 1)
    try:
        assert lock.held(tmp_path)
        with pytest.raises(UsageError, match=f"in use by process {child}"):
            run_of(make(""), tmp_path).train()
        assert [p.name for p in tmp_path.iterdir()] == ["lock"]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert not lock.held(tmp_path)
