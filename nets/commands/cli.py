"""What the commands share: a parser whose errors are one line, and exit codes for problems."""

import argparse
import contextlib
import os
import signal
import sys

import torch

from nets.common.errors import DataError, PeerError, Problem, UsageError


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(f"{message} (see {self.prog} --help)")


def parser(description: str) -> argparse.ArgumentParser:
    return _Parser(description=description)


@contextlib.contextmanager
def one_line_errors():
    """Around a command's work: a problem is one line on stderr and its exit code."""

    def terminate(*_):
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except PeerError as e:
        _say(e)
        sys.stdout.flush()
        os._exit(e.code)  # in this process too something may wait for the dead, for ever
    except Problem as e:
        _say(e)
        if hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # that a loader's workers end now is no news
        raise SystemExit(e.code) from None
    except torch.OutOfMemoryError as e:
        _leave(f"out of memory on the device; a smaller train.batch_size needs less ({e})", UsageError.code)
    except RuntimeError as e:
        if "DataLoader worker" in str(e):  # told by a signal, wherever the program is just then
            _leave(f"data.num_workers: {e}; fewer workers need less memory", UsageError.code)
        if "can't allocate memory" not in str(e):
            raise
        _leave("out of memory; a smaller train.batch_size needs less", UsageError.code)
    except MemoryError:
        _leave("out of memory; a smaller train.batch_size needs less", UsageError.code)
    except OSError as e:
        _leave(f"{e.filename or 'file'}: {e.strerror or e}", DataError.code)
    except KeyboardInterrupt:
        _leave("interrupted", 130)


def _say(e: Problem):
    if not e.told:
        line = " ".join(str(e).split())
        # a file's name may hold what moves a terminal's cursor
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
        print("error: " + line, file=sys.stderr, flush=True)


def _leave(message: str, code: int):
    _say(Problem(message))
    raise SystemExit(code)
