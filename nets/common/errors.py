"""What can go wrong and is not a bug: each has an exit code and is told in one line."""

import difflib
import signal
from pathlib import Path


class Problem(Exception):
    """A fault that the person at the keyboard can mend."""

    code = 1
    told = False  # of several processes another has said what there is to say


class UsageError(Problem):
    """A wrong config or command line."""

    code = 2


class BatchError(UsageError, ValueError):
    """A batch that a layer can't take."""


class SavedError(UsageError, RuntimeError):
    """What a forward saved has been freed by an earlier backward."""


class ModuleError(UsageError, ValueError):
    """A torch module that our layers can't be made from."""


class Unsupported(ModuleError):
    """One option or call of a torch module that no layer has."""


class DataError(Problem):
    """Pictures that are missing, unreadable or don't fit."""

    code = 3


class CheckpointError(Problem):
    """A run or checkpoint that is missing, damaged or doesn't match its config."""

    code = 4


class NonFiniteError(Problem):
    """A loss or a gradient became infinite or NaN."""

    code = 5


class Stopped(Problem):
    """A signal asked for an end: the code is 128 and its number, as shells have it."""

    def __init__(self, number: int, more: str = ""):
        super().__init__({signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[number] + more)
        self.number, self.code = number, 128 + number


class MismatchError(Problem):
    """A manual gradient that is wrong."""

    code = 6


class PeerError(Problem):
    """Another process of the run died."""

    code = 7


def nearest(name: str, known) -> str:
    """`; did you mean "x"?`, or the known names where none is near."""
    known = list(known)
    folded = {k.casefold(): k for k in known}
    near = difflib.get_close_matches(str(name).casefold(), folded, 1, 0.5)
    return f'; did you mean "{folded[near[0]]}"?' if near else f"; known: {', '.join(known)}"


def describe(e: Exception) -> str:
    """Any exception in one line: type, message, file and line."""
    trace, place = e.__traceback__, ""
    while trace:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith("<"):
            place = f" ({Path(code.co_filename).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(e).__name__}: {e}{place}"
