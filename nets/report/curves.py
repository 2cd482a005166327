"""What a run's log shows, as curves over its steps."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Curve:
    name: str
    x: list[int]  # steps
    y: list[float]


@dataclass(frozen=True)
class Panel:
    """Curves of the same thing, `what`, with its unit; there is at least one, with at least one point."""

    what: str
    curves: list[Curve]


def panels(rows: list[dict]) -> list[Panel]:
    """The loss, and the top-1 or the toy sets' largest error, of `log.rows`; none where there are none."""
    epochs = [r for r in rows if "epoch" in r]
    # where an epoch has fewer steps than there are between lines, the epochs' lines say more
    training = max([r for r in rows if "epoch" not in r], epochs, key=len)
    loss = _curve("training", training, "loss")
    climbed = loss.y and loss.y[0] < 0
    found = [Panel("performance P" if climbed else "loss", [loss])]
    if any("largest_error" in r for r in epochs):
        found.append(Panel("largest error", [_curve("test", epochs, "largest_error")]))
    else:
        pair = [_curve("training", training, "train_top1", 100), _curve("test", epochs, "top1", 100)]
        found.append(Panel("top-1 / %", pair))
    found = [Panel(p.what, [c for c in p.curves if c.y]) for p in found]
    return [p for p in found if p.curves]


def number(row: dict, key: str):
    """A row's number, or None where it has none or an infinite one."""
    value = row.get(key)
    return value if isinstance(value, (int, float)) and abs(value) < 1e300 else None


def _curve(name: str, rows: list[dict], key: str, times: float = 1) -> Curve:
    points = [(r["step"], times * r[key]) for r in rows if number(r, key) is not None]
    return Curve(name, [x for x, _ in points], [y for _, y in points])
