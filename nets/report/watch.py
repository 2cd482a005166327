"""Watch a run while it trains: its curves in the terminal, or as a picture.

Only the run's files are read; the training process is not involved.
"""

import itertools
import json
import shutil
import sys
import textwrap
import time
from datetime import timedelta
from pathlib import Path

from nets.common.errors import CheckpointError, DataError, UsageError
from nets.report import braille, figure
from nets.report.curves import number, panels
from nets.training import config, lock, log
from nets.training.evaluate import Report, ToyReport
from nets.training.state import LAST

REST = 10  # seconds of rest for each of work: the cores are the training's
BESIDE = 120  # columns from which panels stand side by side


def result(run: Path) -> str | None:
    """The line that training printed at its end; None before."""
    path = run / "result.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if "within" in facts:
            return ToyReport(facts["largest_error"], facts["within"], facts["count"]).line()
        k = max(int(name.removeprefix("top")) for name in facts["chance"])
        return Report(facts["top1"], facts[f"top{k}"], k, list(facts["per_class"]), [], facts["count"]).line()
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise DataError(f"{path}: not a run's result ({type(e).__name__}: {e})") from None


def status(rows: list[dict], epochs: int) -> list[str]:
    """How far a run of so many epochs is, how long it takes, how fast it is: some words each."""

    def last(key: str):
        return next((r[key] for r in reversed(rows) if number(r, key) is not None), None)

    step, done = rows[-1]["step"], last("epoch") or 0
    end = next((r["step"] for r in reversed(rows) if number(r, "epoch")), 0)
    total = round(end / done * epochs) if done else 0
    words = [f"{done:,} of {epochs:,} epochs", f"step {step:,}"]
    words[1] += f" of about {total:,}" if total > step else ""
    clocks = [(r["step"], r["seconds"]) for r in rows if number(r, "seconds") is not None]
    if clocks:
        words.append(f"{_clock(clocks[-1][1])} so far")
        # at the pace of late, as the first steps may have compiled something
        (a, begin), (b, now) = clocks[(len(clocks) - 1) // 2], clocks[-1]
        if total > b > a:
            words.append(f"about {_clock((total - b) * (now - begin) / (b - a))} left")
    what = "pictures" if last("largest_error") is None else "samples"
    words += [f"{last('per_second'):,.0f} {what}/s"] if last("per_second") is not None else []
    words += [f"{last('memory'):,.0f} MB"] if last("memory") is not None else []
    return words


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def stopped(run: Path, rows: list[dict]) -> str:
    """What to say of a run that has neither a process nor a result."""
    at = f"stopped at step {rows[-1]['step']:,}" if rows else "stopped before its first line"
    return at + ("; --resume goes on" if (run / LAST).exists() else ", without a checkpoint")


def text(name: str, rows: list[dict], epochs: int, width: int, height: int, curves: bool = True) -> list[str]:
    """What the terminal shows, in lines of at most `width` characters."""
    words = status(rows, epochs) if rows else ["no lines yet"]
    together = ", ".join(w.replace(" ", "\xa0") for w in words)
    lines = textwrap.wrap(f"{name}: {together}", width, break_on_hyphens=False)
    room = height - len(lines) - 1
    found = panels(rows) if curves and width >= 20 and room >= 5 else []
    if width >= BESIDE:
        drawn = [braille.draw(p, width // len(found) - 1, min(room, 20)) for p in found]
        below = map("  ".join, zip(*drawn))
    else:
        found = found[: room // 5]
        below = itertools.chain(*(braille.draw(p, width, min(room // len(found), 20)) for p in found))
    return [line.replace("\xa0", " ") for line in lines] + [line.rstrip() for line in below]


class Screen:
    """Text on standard output: on a terminal in place of what was shown before."""

    def __init__(self):
        self.lines, self.size = 0, None

    def show(self, lines: list[str], size):
        again = ""
        if self.lines:
            # up to where the old text begins; another width has broken its lines elsewhere
            again = f"\x1b[{self.lines}F\x1b[J" if size == self.size else "\x1b[H\x1b[2J"
        print(again + "\n".join(lines), flush=True)
        self.lines, self.size = len(lines), size


def watch(run: Path, png: Path | None, every: float, once: bool):
    """Show the run until it ends; what it ended with is the last line."""
    if not (run / "config.toml").exists():
        what = "not a run's folder: it has no config.toml" if run.is_dir() else "no such run"
        raise CheckpointError(f"{run}: {what}")
    try:
        conf = config.load(run / "config.toml")
    except UsageError as e:
        raise CheckpointError(f"{run}: {e}") from None
    screen, before = Screen(), None
    while True:
        begin = time.perf_counter()
        alive = lock.held(run)  # asked first: what an ended run has written is there
        rows, line = log.rows(run), result(run)
        last = once or not alive or line is not None
        now = rows, shutil.get_terminal_size()
        if now != before and (last or sys.stdout.isatty()):
            size = now[1]
            screen.show(text(conf.name, rows, conf.train.epochs, size.columns, size.lines, not png), size)
        if png and now != before and panels(rows):
            figure.by_step(png, panels(rows), ", ".join([conf.name, *status(rows, conf.train.epochs)]))
        before = now
        if line or not alive:
            print(line or stopped(run, rows))
        if last:
            return
        time.sleep(max(every, REST * (time.perf_counter() - begin)))
