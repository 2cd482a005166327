"""Curves in a terminal. A Braille character shows four rows of two dots."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from nets.report.curves import Panel

# the bit of each dot, rows and columns, above U+2800; The Unicode Standard, "Braille Patterns"
DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
SIGNS = "⠒⠒", "o"


def draw(panel: Panel, width: int, height: int) -> list[str]:
    """A panel as `height` lines of `width` characters. The first curve is a line, the others are marks."""
    rows = max(height - 3, 1)  # without the heading, the axis and its numbers
    low, high = _range([y for c in panel.curves for y in c.y])
    last = max(1, *(x for c in panel.curves for x in c.x))
    ticks = [y for y in MaxNLocator(max(rows // 2, 1)).tick_values(low, high) if low <= y <= high]
    numbers = {_place((high - y) / (high - low), 4 * rows) // 4: f"{y:,.6g}" for y in ticks}
    margin = max(map(len, numbers.values()), default=0)
    columns = max(width - margin - 2, 8)
    heading = "  ".join([panel.label, *(f"{s} {c.name} {c.y[-1]:,.4g}" for s, c in zip(SIGNS, panel.curves))])

    line, *others = ((np.array(c.x) / last, (high - np.array(c.y)) / (high - low)) for c in panel.curves)
    cells = _line(*line, rows, columns)
    for x, y in others:
        some = slice(
            None, None, -max(1, len(x) * 6 // columns)
        )  # the last point, and so few that the line stays visible
        cells[_place(y[some], 4 * rows) // 4, _place(x[some], 2 * columns) // 2] = SIGNS[1]
    sides = [f"{numbers.get(i, ''):>{margin}} {'┤' if i in numbers else '│'}" for i in range(rows)]
    axis, steps = _steps(last, columns)
    below = [f"{'':{margin}} └{axis}", f"{'':{margin}}  {steps}"]
    lines = [heading, *(side + "".join(row) for side, row in zip(sides, cells)), *below]
    return [line[: len(lines[1])].ljust(len(lines[1])) for line in lines]


def _range(y: list[float]) -> tuple[float, float]:
    """The smallest and the largest value, moved apart if they are equal."""
    low, high = min(y), max(y)
    margin = 0.0 if high - low > 1e-9 * max(abs(low), abs(high)) else abs(high) / 10 or 1.0
    return low - margin, high + margin


def _place(share, dots: int):
    """The index, out of `dots`, of a share between 0 and 1."""
    return np.rint(np.multiply(share, dots - 1)).astype(int)


def _line(x, y, rows: int, columns: int):
    """The line through the points, as an array of characters (rows, columns)."""
    x, y = _place(x, 2 * columns), _place(y, 4 * rows)
    # between two points, one dot for each column or each row, whichever are more
    lengths = np.maximum(abs(np.diff(x)), abs(np.diff(y)))
    at = np.concatenate([[0], lengths.cumsum()])
    every = np.arange(at[-1] + 1)
    x, y = (np.rint(np.interp(every, at, v)).astype(int) for v in (x, y))
    bits = np.zeros((rows, columns), int)
    np.bitwise_or.at(bits, (y // 4, x // 2), DOTS[y % 4, x % 2])
    return np.where(bits > 0, np.vectorize(chr)(0x2800 + bits), " ")


def _steps(last: int, columns: int) -> tuple[str, str]:
    """The axis of steps, and the numbers below it."""
    axis, below = ["─"] * columns, [" "] * (columns - 4) + list("step")
    for step in MaxNLocator(max(columns // 12, 2), integer=True).tick_values(0, last):
        text, at = f"{step:,.0f}", int(_place(step / last, 2 * columns)) // 2
        begin = max(at - len(text) // 2, 0)
        around = below[max(begin - 1, 0) : begin + len(text) + 1]
        if step <= last and not "".join(around).strip():
            axis[at], below[begin : begin + len(text)] = "┬", text
    return "".join(axis), "".join(below)
