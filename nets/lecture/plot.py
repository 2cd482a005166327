"""The style of the page's pictures: as wide as a phone, large letters, few colors.

A picture's label (`figure.set_label`) says in words what is to be seen. It is the alternative text.
"""

from typing import Any

from matplotlib.figure import Figure

BLUE, RED, GREEN, GOLD, GRAY = "#33658a", "#c8394b", "#3a7d44", "#c77d0a", "#6b6b6b"
PALE, PALE_RED = "#dbe6ef", "#f3d9dc"


WIDTH = 4.1  # inches; a phone shows 10 points as 12 pixels then


def panels(rows: int = 1, columns: int = 1, height: float = 3.6, width: float = WIDTH, **options) -> Any:
    """(figure, axes): one Axes or an array of them, as `Figure.subplots` returns them."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes: Any = figure.subplots(rows, columns, **options)
    drawn: Any = figure.axes
    for a in drawn:
        a.spines[["top", "right"]].set_visible(False)
        a.tick_params(labelsize=10)
        a.xaxis.label.set_size(11)
        a.yaxis.label.set_size(11)
        a.title.set_size(11)
    return figure, axes
