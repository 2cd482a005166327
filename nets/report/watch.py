"""Watch: shows a run while it trains, as curves in the terminal or as a PNG.

Only the run's files are read; the training process is not involved.
"""

import itertools
import shutil
import sys
import textwrap
import time
from pathlib import Path

from nets.common.errors import CheckpointError, UsageError
from nets.report import braille, figure
from nets.report.curves import panels
from nets.report.progress import result_line, status, stopped_line
from nets.training import config, lock, log, toml

REST = 10  # seconds of rest for each second of work, which leaves the cores to the training
SIDE_BY_SIDE = 120  # columns from which on panels are drawn side by side


def text(
    name: str, log_entries: list[dict], epochs: int, width: int, height: int, curves: bool = True
) -> list[str]:
    """The text for a terminal, in lines of at most `width` characters."""
    phrases = status(log_entries, epochs) if log_entries else ["no lines yet"]
    together = ", ".join(phrase.replace(" ", "\xa0") for phrase in phrases)
    lines = textwrap.wrap(f"{name}: {together}", width, break_on_hyphens=False)
    room = height - len(lines) - 1
    found = panels(log_entries) if curves and width >= 20 and room >= 5 else []
    if width >= SIDE_BY_SIDE:
        drawn = [braille.draw(p, width // len(found) - 1, min(room, 20)) for p in found]
        below = map("  ".join, zip(*drawn))
    else:
        found = found[: room // 5]
        below = itertools.chain(*(braille.draw(p, width, min(room // len(found), 20)) for p in found))
    return [line.replace("\xa0", " ") for line in lines] + [line.rstrip() for line in below]


class Screen:
    """Text on standard output. On a terminal it replaces the text shown before."""

    def __init__(self):
        self.lines, self.size = 0, None

    def show(self, lines: list[str], size):
        erase = ""
        if self.lines:
            # back to the start of the old text; after a change of size its lines are broken elsewhere
            erase = f"\x1b[{self.lines}F\x1b[J" if size == self.size else "\x1b[H\x1b[2J"
        print(erase + "\n".join(lines), flush=True)
        self.lines, self.size = len(lines), size


def watch(run: Path, png: Path | None, every: float, once: bool):
    """Show the run until it ends, then print its result.

    png    write the curves to this file instead of the terminal
    every  seconds between two looks, at least
    once   show the run once, even if it goes on
    """
    name, epochs = _name_and_epochs(run)
    screen, before = Screen(), None
    while True:
        begin = time.perf_counter()
        alive = lock.held(run)  # before the log is read: an ended run has written all of it
        log_entries, line = log.read_entries(run), result_line(run)
        last = once or not alive or line is not None
        size = shutil.get_terminal_size()
        changed = (log_entries, size) != before
        if changed and (last or sys.stdout.isatty()):
            lines = text(name, log_entries, epochs, size.columns, size.lines, not png)
            screen.show(lines, size)
        if png and changed and panels(log_entries):
            title = ", ".join([name, *status(log_entries, epochs)])
            figure.by_step(png, panels(log_entries), title)
        before = log_entries, size
        if line or not alive:
            print(line or stopped_line(run, log_entries))
        if last:
            return
        time.sleep(max(every, REST * (time.perf_counter() - begin)))


def _name_and_epochs(run: Path) -> tuple[str, int]:
    """A run's name and its number of epochs. CheckpointError if its folder has no settings, or wrong ones."""
    path, settings = run / "config.toml", run / "settings.toml"  # of nets train, and of fit
    try:
        if not path.exists() and settings.exists():
            table = toml.read(settings)
            return str(table["name"]), int(table["train"]["epochs"])
        if not path.exists():
            problem = "not a run's folder: it has no config.toml" if run.is_dir() else "no such run"
            raise CheckpointError(f"{run}: {problem}")
        conf = config.load(path)
        return conf.name, conf.train.epochs
    except (UsageError, KeyError, TypeError, ValueError) as e:
        raise CheckpointError(f"{run}: {e}") from None
