"""A run's log: metrics.jsonl has the metrics, times.jsonl the times, with one line for each entry.

metrics.jsonl has no times, so a resumed run's is bit-identical to that of a run that was never stopped. A
checkpoint stores a mark, the log's length; resuming cuts off what was written after it.
"""

import contextlib
import hashlib
import json
import math
import os
from collections import defaultdict, deque
from pathlib import Path

from nets.common.errors import CheckpointError, DataError, UsageError

METRICS, TIMES = FILES = "metrics.jsonl", "times.jsonl"
EVENTS = "events.out.tfevents.*"  # TensorBoard's


class Log:
    """A new log in a run's folder. An earlier run's log is removed.

    tensorboard  also write events, for `tensorboard --logdir` of the folder or its parent
    """

    def __init__(self, folder: Path, tensorboard: bool = False):
        writer = summary_writer() if tensorboard else None  # an error here removes nothing
        for path in (*folder.glob(EVENTS), *(folder / name for name in FILES)):
            path.unlink(missing_ok=True)
        for name in FILES:
            (folder / name).touch()
        self._begin(folder, writer and writer(str(folder)))

    @classmethod
    def resume(cls, folder: Path, mark: dict, tensorboard: bool = False) -> "Log":
        """The log as it was at a checkpoint's mark. What was written after it is cut off.

        CheckpointError if metrics.jsonl has changed before the mark. Missing times are no error.
        """
        writer = summary_writer() if tensorboard else None
        try:
            lengths, wanted = [int(mark[name]) for name in ("metrics", "times")], mark["sha256"]
        except (KeyError, TypeError, ValueError):
            raise CheckpointError(f"{folder}: the checkpoint doesn't say how far {METRICS} went") from None
        metrics, times = (_bytes(folder / name)[:n] for name, n in zip(FILES, lengths))
        if len(metrics) < lengths[0]:
            has = f"has {len(metrics):,} of the {lengths[0]:,} bytes that it had at the checkpoint"
            raise CheckpointError(f"{folder / METRICS}: {has}")
        if hashlib.sha256(metrics).hexdigest() != wanted:
            raise CheckpointError(f"{folder / METRICS}: checksum mismatch")
        times = times[: times.rfind(b"\n") + 1]  # without a partial last line
        for name, kept in zip(FILES, (metrics, times)):
            (folder / name).touch()
            os.truncate(folder / name, len(kept))
        last = max((row["step"] for row in _lines(folder / METRICS)), default=0)
        log = cls.__new__(cls)
        # TensorBoard cuts off later points as well
        log._begin(folder, writer and writer(str(folder), purge_step=last + 1), len(metrics), len(times))
        return log

    def _begin(self, folder: Path, writer, metrics: int = 0, times: int = 0):
        self.folder, self.writer = folder, writer
        self.sizes = {METRICS: metrics, TIMES: times}

    def add(self, facts: dict, times: dict):
        """Append a line to each file; both have "step". A number that isn't finite is null.

        OSError, with the file's name, if the disk is full or the folder is gone; no partial line is left.
        """
        facts, times = ({k: v if _finite(v) else None for k, v in row.items()} for row in (facts, times))
        self._append(METRICS, facts)
        self._append(TIMES, times)
        if self.writer:
            kind = "epoch" if "epoch" in facts else "steps"
            with _named(self.folder):
                for name, value in (facts | times).items():
                    if value is not None and name not in ("step", "epoch"):
                        self.writer.add_scalar(f"{kind}/{name}", value, facts["step"])
                self.writer.flush()

    def _append(self, name: str, row: dict):
        path, line = self.folder / name, (json.dumps(row, allow_nan=False) + "\n").encode()
        # opened for each line and never created: a file that has vanished is an error
        with _named(path), open(path, "r+b", buffering=0) as file:
            file.seek(self.sizes[name])
            try:
                done = file.write(line)
                while done < len(line):  # the disk is nearly full; the next write raises
                    done += file.write(line[done:])
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(self.sizes[name])
                raise
        self.sizes[name] += len(line)

    def mark(self) -> dict:
        """How far the log goes, for a checkpoint. Everything before it is on the disk."""
        for path in (self.folder / name for name in FILES):
            with _named(path), open(path, "r+b") as file:
                os.fsync(file.fileno())
        metrics = (self.folder / METRICS).read_bytes()[: self.sizes[METRICS]]
        sizes = {"metrics": self.sizes[METRICS], "times": self.sizes[TIMES]}
        return sizes | {"sha256": hashlib.sha256(metrics).hexdigest()}

    def close(self):
        """End TensorBoard's thread. Without it nothing is lost."""
        if self.writer:
            self.writer.close()


class MemoryLog:
    """The log of a run without a folder: lines as `read_entries` returns them."""

    def __init__(self):
        self.entries: list[dict] = []

    def add(self, facts: dict, times: dict):
        self.entries.append({k: v if _finite(v) else None for k, v in (facts | times).items()})

    def close(self):
        pass


def summary_writer():
    """TensorBoard's SummaryWriter. UsageError if it isn't installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError("log.tensorboard: needs pip install '.[tensorboard]'") from None
    return SummaryWriter


def read_entries(folder) -> list[dict]:
    """The log's entries, metrics and times in one dict each; none if there is no log yet.

    The run may be writing: a partial last line is left out. DataError for any other damaged line.
    """
    found, times = _lines(Path(folder) / METRICS), defaultdict(deque)
    for row in _lines(Path(folder) / TIMES):
        times[row["step"]].append(row)
    return [row | (times[row["step"]].popleft() if times[row["step"]] else {}) for row in found]


def _lines(path: Path) -> list[dict]:
    lines = []
    for i, line in enumerate(_bytes(path).split(b"\n")[:-1], 1):
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and type(row.get("step")) is int and 0 <= row["step"] < 2**63:
                lines.append(row)
        if len(lines) < i:
            raise DataError(f"{path}, line {i}: damaged, or not of a run's log")
    return lines


def _bytes(path: Path) -> bytes:
    """A file's content, empty where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _finite(value) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


@contextlib.contextmanager
def _named(path: Path):
    """Around writing: an OSError gets the file's name."""
    try:
        yield
    except OSError as e:
        if e.filename is None:
            raise OSError(e.errno, e.strerror or str(e), str(path)) from None
        raise
