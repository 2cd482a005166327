"""The progress of a run, read from its folder: how far it is, and its result."""

import json
from datetime import timedelta
from pathlib import Path

from nets.common.errors import DataError
from nets.report.curves import finite
from nets.training.checkpoint import LAST
from nets.training.metrics import Metrics, OutputMetrics


def result_line(run: Path) -> str | None:
    """The line that training printed at its end; None if the run hasn't ended."""
    path = run / "result.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if "within" in facts:
            return OutputMetrics(facts["largest_error"], facts["within"], facts["count"]).line()
        if "chance" not in facts and "parameters" in facts:
            return f"finished, without a test set: {facts['parameters']:,} parameters"
        per_class = list(facts["per_class"])
        k = min(5, len(per_class))
        topk = facts["top5"] if k < len(per_class) else 1.0
        return Metrics(facts["top1"], topk, k, per_class, [], facts["count"]).line()
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise DataError(f"{path}: not a run's result ({type(e).__name__}: {e})") from None


def status(log_entries: list[dict], epochs: int) -> list[str]:
    """Phrases on a run of `epochs` epochs: epochs and steps done, time so far and left, speed, memory."""

    def last(key: str):
        return next((e[key] for e in reversed(log_entries) if finite(e, key) is not None), None)

    step, done = log_entries[-1]["step"], last("epoch") or 0
    end = next((e["step"] for e in reversed(log_entries) if finite(e, "epoch")), 0)
    total = round(end / done * epochs) if done else 0
    phrases = [f"{done:,} of {epochs:,} epochs", f"step {step:,}"]
    phrases[1] += f" of about {total:,}" if total > step else ""
    times = [(e["step"], e["seconds"]) for e in log_entries if finite(e, "seconds") is not None]
    if times:
        phrases.append(f"{_duration(times[-1][1])} so far")
        # the pace of the second half: the first steps may include compilation
        (a, begin), (b, now) = times[(len(times) - 1) // 2], times[-1]
        if total > b > a:
            phrases.append(f"about {_duration((total - b) * (now - begin) / (b - a))} left")
    what = "images" if last("largest_error") is None else "samples"
    phrases += [f"{last('per_second'):,.0f} {what}/s"] if last("per_second") is not None else []
    phrases += [f"{last('memory'):,.0f} MB"] if last("memory") is not None else []
    return phrases


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def stopped_line(run: Path, log_entries: list[dict]) -> str:
    """The line for a run without a process and without a result."""
    at = f"stopped at step {log_entries[-1]['step']:,}" if log_entries else "stopped before its first line"
    return at + ("; resume with --resume" if (run / LAST).exists() else ", without a checkpoint")
