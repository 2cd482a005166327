"""How the chapter's pictures look: one column wide, large letters, few colors."""

from matplotlib.figure import Figure

BLUE, RED, GREEN, GOLD, GREY = "#33658a", "#c8394b", "#3a7d44", "#c77d0a", "#6b6b6b"
PALE = "#dbe6ef"


def panels(rows: int = 1, columns: int = 1, height: float = 3.6, width: float = 6.4, **options):
    """A figure and its axes, as `Figure.subplots` gives them."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, **options)
    for a in axes.flat if rows * columns > 1 else [axes]:
        a.spines[["top", "right"]].set_visible(False)
        a.tick_params(labelsize=10)
        a.xaxis.label.set_size(11)
        a.yaxis.label.set_size(11)
        a.title.set_size(11)
    return figure, axes


def save(figure: Figure, path):
    figure.savefig(path, dpi=120, facecolor="white", format="png", metadata={"Software": None})
