"""Curves in a terminal, dot by dot."""

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nets.report import braille
from nets.report.curves import Curve, Panel


def dots(lines):
    """The dots that are set in a drawing: (4 · rows, 2 · columns)."""
    cells = [[ord(c) - 0x2800 if c > "⟿" else 0 for c in re.split("[┤│]", line)[1]] for line in lines[1:-2]]
    cells = np.array(cells)
    out = np.zeros((4 * cells.shape[0], 2 * cells.shape[1]), bool)
    for bit, (row, column) in enumerate([(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (3, 0), (3, 1)]):
        out[row::4, column::2] = cells >> bit & 1
    return out


def test_a_small_drawing_dot_by_dot():
    lines = braille.draw(Panel("loss", [Curve("training", [0, 4, 8], [0.0, 2.0, 0.0])]), 23, 7)
    assert set(map(len, lines)) == {23}
    assert [line.rstrip() for line in lines] == [
        "loss  ⠒⠒ training 0",
        "2 ┤        ⡠⠔⠑⠤⡀",
        "  │     ⢀⠔⠉    ⠈⠢⢄",
        "1 ┤  ⢀⠤⠊⠁         ⠑⠢⡀",
        "0 ┤⡠⠔⠁              ⠈⠒⢄",
        "  └┬─────────┬─────────",
        "   0         4     step",
    ]


@given(
    st.lists(st.tuples(st.integers(1, 50), st.floats(-1e6, 1e6)), min_size=1, max_size=40),
    st.integers(12, 90),
    st.integers(4, 24),
)
def test_a_drawing_has_every_point_and_a_line_without_gaps(points, width, height):
    x = np.cumsum([dx for dx, _ in points])
    y = np.array([v for _, v in points])
    lines = braille.draw(Panel("loss", [Curve("training", x.tolist(), y.tolist())]), width, height)
    assert len(lines) == height and len(set(map(len, lines))) == 1
    assert len(lines[0]) == max(width, lines[-2].index("└") + 9)  # the least width
    seen = dots(lines)
    rows, columns = seen.shape
    if np.ptp(y) > 1e-3:
        top, left = (y.max() - y) / np.ptp(y) * (rows - 1), x / x[-1] * (columns - 1)
        for a, b in zip(top, left):
            near = seen[max(0, int(a)) : int(a) + 2, max(0, int(b)) : int(b) + 2]
            assert near.any(), (a, b)
    used = np.flatnonzero(seen.any(0))
    assert (np.diff(used) == 1).all()
    for column in range(used[0], used[-1]):  # neighboring columns touch
        a, b = np.flatnonzero(seen[:, column]), np.flatnonzero(seen[:, column + 1])
        assert abs(a[:, None] - b).min() <= 1 and (np.diff(a) == 1).all()


def test_axis_numbers_are_at_their_places():
    lines = braille.draw(Panel("loss", [Curve("training", [0, 1000, 2000], [1.0, 3.0, 5.0])]), 60, 12)
    for number, row in ((5, 0), (3, 4), (1, 8)):
        assert lines[1 + row].startswith(f"{number} ┤"), lines
    far = braille.draw(Panel("top-1 / %", [Curve("test", [0, 1, 2, 3, 4], [100, 90, 60, 30, 21])]), 60, 9)
    assert [line.split()[0] for line in far[1:-2]] == [
        "90",
        "│",
        "│",
        "60",
        "│",
        "30",
    ]  # not at equal distances
    ticks = [i for i, c in enumerate(lines[-2]) if c == "┬"]
    numbers = [(m.start(), m[0]) for m in re.finditer(r"[\d,]+", lines[-1])]
    assert lines[-1].endswith("step") and len(ticks) == len(numbers) >= 3
    for tick, (begin, number) in zip(ticks, numbers):
        assert begin <= tick <= begin + len(number)
        assert abs((tick - 3) / 56 * 2000 - int(number.replace(",", ""))) < 40


def test_the_test_curve_is_marks_that_leave_the_line_visible():
    many = list(range(1, 200))
    panel = Panel("top-1 / %", [Curve("training", many, many), Curve("test", many, many)])
    lines = braille.draw(panel, 80, 12)
    drawn = "".join(lines[1:-2])
    assert 5 <= drawn.count("o") <= 14 and sum(c > "⟿" for c in drawn) > 30
    assert lines[1].endswith("o") and "⠒⠒ training 199  o test 199" in lines[0]
