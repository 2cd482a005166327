"""Errors that are not bugs. A command prints them in one line and exits with their code."""

import difflib
import signal
from pathlib import Path


class Problem(Exception):
    """An error that the user can fix."""

    code = 1
    reported = False  # another process of the run has printed it


class UsageError(Problem):
    """A wrong config or command line."""

    code = 2


class BatchError(UsageError, ValueError):
    """A batch that a layer can't process."""


class SavedError(UsageError, RuntimeError):
    """What a forward saved has been freed by an earlier backward."""


class ModuleError(UsageError, ValueError):
    """A torch module that can't be converted to layers."""


class Unsupported(ModuleError):
    """One option or call of a torch module that no layer has."""


class DataError(Problem):
    """Images that are missing, unreadable or unsuitable."""

    code = 3


class CheckpointError(Problem):
    """A run or checkpoint that is missing, damaged or doesn't match its config."""

    code = 4


class NonFiniteError(Problem):
    """A loss or an update that is infinite or NaN."""

    code = 5


class Terminated(SystemExit):
    """SIGTERM in the midst of work. Not a layer's own SystemExit, which gradcheck reports."""

    def __init__(self):
        super().__init__(128 + signal.SIGTERM)


class Stopped(Problem):
    """Ended by a signal. The code is 128 plus the signal's number, as in shells."""

    def __init__(self, number: int, more: str = ""):
        name = "interrupted" if number == signal.SIGINT else "terminated"
        super().__init__(name + more)
        self.number, self.code = number, 128 + number


class MismatchError(Problem):
    """A manual gradient that is wrong."""

    code = 6


class PeerError(Problem):
    """Another process of the run died."""

    code = 7


def nearest(name: str, known) -> str:
    """The end of an error message: `; did you mean "x"?`, or the known names if none is similar."""
    known = list(known)
    folded = {k.casefold(): k for k in known}
    near = difflib.get_close_matches(str(name).casefold(), folded, 1, 0.5)
    return f'; did you mean "{folded[near[0]]}"?' if near else f"; known: {', '.join(known)}"


def printable(text: str) -> str:
    """In one line, with escapes for control characters and bytes that aren't UTF-8, as in a file's name."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))


def describe(e: BaseException) -> str:
    """Any exception in one line: type, message, file and line."""
    trace, place = e.__traceback__, ""
    while trace:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith("<"):
            place = f" ({Path(code.co_filename).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(e).__name__}: {' '.join(_text(e).split())}{place}"


def first_line(e: Exception) -> str:
    """The first line of an exception's text; its type's name where there is none."""
    return next(iter(_text(e).splitlines()), type(e).__name__)


def _text(e: BaseException) -> str:
    try:
        return str(e)
    except Exception as worse:  # a class of the user's
        return f"(its text can't be shown: {type(worse).__name__})"
