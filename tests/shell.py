"""Runs a command of `nets` in this process as the shell does."""

import contextlib
import io
import signal
from pathlib import Path

from nets.commands import main

ROOT = Path(__file__).parents[1]
QUICK = ["--set", "train.epochs=2", "--device", "cpu"]  # a short training run


def last_line(printed: str) -> str:
    """What `nets train` prints at its end, after the lines of its epochs."""
    return printed.splitlines(keepends=True)[-1]


def shell(*args, code: int = 0, cwd: Path = ROOT) -> str:
    """What `nets ARGS` prints in the folder cwd. Checks its exit code, and that an error is one line.

    Returns stdout, or stderr where code is not 0.
    """
    out, err, handler = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(cwd):
            main([str(a) for a in args])
        left = 0
    except SystemExit as e:
        left = e.code or 0
    finally:
        signal.signal(signal.SIGTERM, handler)
    out, err = out.getvalue(), err.getvalue()
    assert left == code, err
    if code:
        assert err.count("\n") == 1 and err.startswith("error: "), err
    return err if code else out
