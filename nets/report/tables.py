"""Tables as text: aligned columns, and numbers in a short form."""

from collections.abc import Callable, Sequence

UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def grid(lines: Sequence[Sequence[str]], left: tuple[int, ...] = (0,)) -> str:
    """Aligned columns. Columns in `left` are aligned to the left, all others to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    sides = ["<" if i in left else ">" for i in range(len(widths))]
    padded = ("  ".join(f"{c:{side}{w}}" for c, side, w in zip(line, sides, widths)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def number(v: float) -> str:
    """At least three significant digits, and at most three decimal places."""
    return f"{v:,.0f}" if v >= 100 else f"{v:.1f}" if v >= 10 else f"{v:.2f}" if v >= 1 else f"{v:.3f}"


def count(v: float) -> str:
    """A number with a decimal prefix and a space: "1.23 M". The caller appends the unit."""
    for unit, prefix in UNITS:
        if v >= unit:
            return f"{number(v / unit)} {prefix}"
    return f"{v:.0f} "


def size(v: float | None) -> str:
    """Bytes with a decimal prefix, a dash for None."""
    return or_dash(v, lambda v: f"{count(v)}B")


def or_dash(v, show: Callable[..., str]) -> str:
    """show(v), a dash for None."""
    return "–" if v is None else show(v)
