"""Text in figures: fonts for any script, and names cut to the width that they have."""

import sys
import unicodedata
import warnings
from functools import cache
from pathlib import Path

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from tqdm import tqdm

from nets.common.errors import printable

warnings.filterwarnings("ignore", "Glyph .* missing from font")  # `complete_fonts` says so, once
_noted: set[str] = set()  # characters that a note has named
PLACEHOLDERS = "Last Resort"  # a font with a box for every character


def complete_fonts(figure: Figure):
    """Give each text of the figure fonts of the system for what its own font lacks.

    A note on stderr names the characters that no font has, once in a process.
    """
    nowhere = set()
    for text in figure.findobj(Text):
        if not isinstance(text, Text) or text.get_text().isascii():
            continue
        own = _characters(font_manager.findfont(text.get_fontproperties()))
        families, missing = _families(frozenset(c for c in text.get_text() if not c.isspace()) - own)
        text.set_fontfamily([*text.get_fontfamily(), *families])
        nowhere |= missing
    if nowhere - _noted:
        some = "".join(sorted(nowhere - _noted)[:20])
        tqdm.write(f"note: no installed font has the characters {printable(some)}", sys.stderr)
        _noted.update(nowhere)


@cache
def _characters(path: str) -> frozenset[str]:
    return frozenset(map(chr, FT2Font(path).get_charmap()))


@cache
def _families(missing: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """(the fewest font families that have the characters, the characters that none has)."""
    chosen = []
    while missing:
        entries = [e for e in font_manager.fontManager.ttflist if not e.name.startswith(PLACEHOLDERS)]
        found = [
            (len(missing & _safely(e.fname)), e.style == "normal", e.weight == 400, e.name) for e in entries
        ]
        most = max(found, default=(0, True, True, ""))
        if not most[0]:
            break
        chosen.append(most[3])
        missing -= frozenset().union(*(_safely(e.fname) for e in entries if e.name == most[3]))
    return tuple(chosen), missing


def _safely(path: str) -> frozenset[str]:
    """A font's characters; none if it can't be read, as fonts of pictures can't, or is gone."""
    try:
        return _characters(path) if Path(path).is_file() else frozenset()
    except RuntimeError:
        return frozenset()


def cut(text: Text, width: float):
    """Shorten a text to a width in pixels, with "…" at its end."""
    whole = text.get_text()
    low, high = 0, len(whole)  # characters: low fit, more than high don't
    while low < high:
        middle = (low + high + 1) // 2
        text.set_text(_beginning(whole, middle))
        fits = text.get_window_extent().width <= width
        low, high = (middle, high) if fits else (low, middle - 1)
    text.set_text(_beginning(whole, low))


def _beginning(whole: str, count: int) -> str:
    """The first characters of a text. An accent is not parted from its letter."""
    if count >= len(whole):
        return whole
    while count and unicodedata.combining(whole[count]):
        count -= 1
    return whole[:count].rstrip() + "…"
