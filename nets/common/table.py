"""Plain text tables."""


def grid(lines: list[list[str]], left: tuple[int, ...] = (0,)) -> str:
    """Aligned columns: numbers to the right; columns `left` are words."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    sides = ["<" if i in left else ">" for i in range(len(widths))]
    rows = ("  ".join(f"{c:{side}{w}}" for c, side, w in zip(line, sides, widths)) for line in lines)
    return "\n".join(row.rstrip() for row in rows)


def number(v: float) -> str:
    """Three digits at least, and no more after the point than they need."""
    return f"{v:,.0f}" if v >= 100 else f"{v:.1f}" if v >= 10 else f"{v:.2f}" if v >= 1 else f"{v:.3f}"
