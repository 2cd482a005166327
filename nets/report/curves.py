"""The curves in a run's log, over its steps."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Curve:
    name: str
    x: list[int]  # steps
    y: list[float]


@dataclass(frozen=True)
class Panel:
    """Curves of one quantity. There is at least one curve, with at least one point.

    label  the quantity and its unit
    """

    label: str
    curves: list[Curve]


def panels(log_entries: list[dict]) -> list[Panel]:
    """The loss, and the top-1 or the toy sets' largest error. Empty if the log has no such values."""
    epochs = [entry for entry in log_entries if "epoch" in entry]
    # entries by step, unless epochs are shorter than the logging interval and give more points
    training = max([entry for entry in log_entries if "epoch" not in entry], epochs, key=len)
    loss = _curve("training", training, "loss")
    maximized = bool(loss.y) and loss.y[0] < 0
    found = [Panel("performance P" if maximized else "loss", [loss])]
    if any({"largest_error", "val_largest_error"} & entry.keys() for entry in epochs):
        found.append(Panel("largest error", _tests(epochs, "largest_error")))
    else:
        trained = _curve("training", training, "train_top1", 100)
        found.append(Panel("top-1 / %", [trained, *_tests(epochs, "top1", 100)]))
    found = [Panel(p.label, [c for c in p.curves if c.y]) for p in found]
    return [p for p in found if p.curves]


def _tests(epochs: list[dict], key: str, factor: float = 1) -> list[Curve]:
    """The scores on the test set and on the validation split."""
    return [_curve("test", epochs, key, factor), _curve("validation", epochs, f"val_{key}", factor)]


def finite(entry: dict, key: str) -> float | None:
    """An entry's number. None if it has none, or if the number isn't finite."""
    value = entry.get(key)
    return value if isinstance(value, (int, float)) and abs(value) < 1e300 else None


def _curve(name: str, log_entries: list[dict], key: str, factor: float = 1) -> Curve:
    points = [(e["step"], factor * e[key]) for e in log_entries if finite(e, key) is not None]
    return Curve(name, [x for x, _ in points], [y for _, y in points])
