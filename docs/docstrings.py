"""How the site shows docstrings: aligned lists become lists, everything else stays as it is written.

A docstring is free text. Formulas and examples stand in indented blocks, which Markdown shows as they are.
Names with their meanings are aligned,

    size    side of the window
    stride  distance between windows, by default
            the side

without the indent, and would run together in Markdown.
"""

import re

import griffe

LABEL = re.compile(r"\n(?=Sources?: |[a-z_]+: )")  # these begin a paragraph of their own
ITEM = re.compile(r"(\S+(?: \S+)*?) {2,}(\S.*)")


class AlignedLists(griffe.Extension):
    """Rewrites the docstring of each module, class, function and attribute."""

    def on_object(self, *, obj, **_):
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """The docstring with aligned lists as Markdown lists, and Markdown's own signs as plain text."""
    return "\n\n".join(_paragraph(part) for part in re.split(r"\n\s*\n", text))


def _paragraph(text: str) -> str:
    if text.startswith("    "):
        return text
    text = LABEL.sub("\n\n", text)
    lines = text.split("\n")
    if not all(ITEM.fullmatch(line) or line.startswith("  ") for line in lines) or lines[0].startswith(" "):
        return _escaped(text)
    items = []
    for line in lines:
        found = ITEM.fullmatch(line)
        if found:
            items.append(f"- `{found[1]}`: {_escaped(found[2])}")
        else:
            items[-1] += " " + _escaped(line.strip())
    return "\n".join(items)


def _escaped(text: str) -> str:
    """Outside of `code`, the signs * _ [ < stand for themselves."""
    parts = text.split("`")
    parts[::2] = [
        re.sub(r"[*_[]|<(?=[A-Za-z/])", r"\\\g<0>", part).replace("\\<", "&lt;") for part in parts[::2]
    ]
    return "`".join(parts)
