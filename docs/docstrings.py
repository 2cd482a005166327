"""How the API reference shows modules: free-text docstrings as Markdown, each object once, each class whole.

Formulas and examples stand in indented blocks, which Markdown shows as they are. Names with their meanings
are aligned without an indent:

    size    side of the window
    stride  distance between windows, by default
            the side

They become a list here; Markdown would join them. Sources and descriptions of an argument ("size: …")
begin a paragraph.
"""

import re

import griffe

ITEM = re.compile(r"(\S+(?: \S+)*?) {2,}(\S.*)")


class PlainText(griffe.Extension):
    def on_package(self, *, pkg: griffe.Module, **_):
        self._walk(pkg)

    def _walk(self, obj: griffe.Object):
        if obj.is_module:
            obj.exports = None  # what a package imports is shown where it is defined
        for member in list(obj.members.values()):
            self._walk(member) if not member.is_alias else None
        arguments = []
        if obj.is_class and (init := obj.all_members.get("__init__")):
            arguments = [p.name for p in init.parameters]
            # the source under the signature is the class's, with its forward and backward
            lines = {"lineno": obj.lineno, "endlineno": obj.endlineno}
            obj.set_member("__init__", griffe.Function("__init__", parameters=init.parameters, **lines))
        elif obj.is_function:
            arguments = [p.name for p in obj.parameters]
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value, arguments)


def markdown(text: str, arguments=()) -> str:
    """The docstring with aligned lists as Markdown lists, and Markdown's own signs as plain text."""
    labels = "|".join(["Sources?", *map(re.escape, arguments)])
    text = re.sub(rf"\n(?=(?:{labels})(?:, \w+)*: )", "\n\n", text)
    return "\n\n".join(_paragraph(part) for part in re.split(r"\n\s*\n", text))


def _paragraph(text: str) -> str:
    if text.startswith("    "):
        return text
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
    plain = [re.sub(r"[*_[]", r"\\\g<0>", part) for part in parts[::2]]
    parts[::2] = [re.sub(r"<(?=[A-Za-z/])", "&lt;", part) for part in plain]
    return "`".join(parts)
