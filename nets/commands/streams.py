"""Standard output and error as they may be: of any encoding, closed by their reader, on a full disk."""

import codecs
import contextlib
import io
import os
import sys

# signs that commands print, for an encoding that lacks them
PLAIN = {"█": "#", "│": "|", "┤": "|", "└": "+", "┬": "+", "─": "-", "×": "x", "−": "-", "·": ".", "…": "..."}
PLAIN |= {"²": "^2", "µ": "u", "σ": "sigma", "→": "->", "≤": "<=", "≥": ">=", "±": "+-", "\u2800": " "}
BRAILLE = range(0x2801, 0x2900)  # the terminal's curves


def _plain(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: the sign in ASCII, or its escape."""
    assert isinstance(error, UnicodeEncodeError)
    signs = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or ("*" if ord(c) in BRAILLE else ascii(c)[1:-1]) for c in signs), error.end


codecs.register_error("nets.plain", _plain)


def accept_every_sign():
    """A sign that stdout or stderr can't encode is printed in ASCII. So is a file's name that isn't UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="nets.plain")


def flush():
    """Write what is left of stdout. An OSError names it."""
    try:
        if sys.stdout is not None:  # it is None where the shell has closed it
            sys.stdout.flush()
    except OSError as e:
        e.filename = "standard output"
        raise


def discard_output():
    """From here on, what is printed goes nowhere: stdout can't be written."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def end():
    """Before the process ends: what stdout doesn't take is no further error."""
    try:
        flush()
    except OSError:
        discard_output()


def print_error(line: str):
    """One line on stderr, if anyone reads it."""
    with contextlib.suppress(OSError):
        if sys.stderr is not None:
            print(line, file=sys.stderr, flush=True)
