"""TOML: reading it with errors of one line, numbers as people write them, and writing it."""

import dataclasses
import json
import math
import re
import tomllib
from pathlib import Path
from typing import Any

from nets.common.errors import UsageError

LARGEST = 2**18  # bytes of a file
DEEPEST = 50  # tables and lists inside one another
# strings and comments, or a value that TOML refuses although its meaning is clear: .5, 1., 1.e3, True
LOOSE = re.compile(
    r""""(?:\\.|[^"\\])*"|'[^']*'|\#.*|"""
    r"""(?<![\w.])(?P<value>[+-]?(?:\.\d[\d_]*|\d[\d_]*\.(?!\d))(?:[eE][+-]?\d+)?|(?i:true|false))(?![\w.])"""
)


def read(path: Path) -> dict:
    """The table in a UTF-8 file, also one with a byte order mark. UsageError names the file and the line."""
    if path.is_fifo() and path.parent != Path("/dev/fd"):  # opening it would wait for its writer
        raise UsageError(f"config {path}: not a file")
    try:
        with open(path, "rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as e:
        raise UsageError(f"config {path}: {e.strerror}") from None
    if len(raw) > LARGEST:
        raise UsageError(f"config {path}: more than {LARGEST:,} bytes, too many for a config")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"config {path}: not a UTF-8 text file") from None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as e:  # TOMLDecodeError is a ValueError
        raise UsageError(f"config {path}: {e}{_right_form(text, str(e))}") from None


def value(text: str):
    """A value on the command line: TOML, a number as people write it, or else the text itself."""
    for attempt in (text, LOOSE.sub(_strict, text)):
        try:
            table = tomllib.loads(f"value = {attempt}")
        except (ValueError, KeyError, RecursionError):
            continue
        return table["value"] if len(table) == 1 else text
    return text


def _strict(match: re.Match) -> str:
    """A loose value as TOML has it; strings and comments as they are."""
    loose = match["value"]
    if loose is None:
        return match[0]
    sign, number = loose[: loose[0] in "+-"], loose.lstrip("+-")
    if number[0] == ".":
        return f"{sign}0{number}"
    return loose.replace(".", ".0").lower()


def _right_form(text: str, error: str) -> str:
    """`; write 0.5, not .5` where such a value is at the place that tomllib's error names, else nothing."""
    place = re.search(r"at line (\d+), column (\d+)", error)
    if not place:
        return ""
    line, column = text.split("\n")[int(place[1]) - 1], int(place[2]) - 1
    for match in LOOSE.finditer(line):
        if match["value"] and match.start() <= column <= match.end() and _strict(match) != match[0]:
            return f"; write {_strict(match)}, not {match[0]}"
    return ""


def set_value(table: dict, override: str):
    """Set a key of a nested table as "a.b=value" says, where a list's items go by their index.

    UsageError where there is no such place.
    """
    where, equals, text = (part.strip() for part in override.partition("="))
    if not equals or not where:
        raise UsageError(f'--set {override}: write it as key=value, for example "train.lr=0.1"')
    new = value(text)  # a bare word is a string
    *parents, last = where.split(".")
    holder: Any = table
    for name in parents:
        holder = (
            holder[_index(holder, name, override)]
            if isinstance(holder, list)
            else holder.setdefault(name, {})
        )
        if not isinstance(holder, (dict, list)):
            raise UsageError(f"--set {override}: {name} is a value, not a table")
    place: Any = _index(holder, last, override) if isinstance(holder, list) else last
    holder[place] = new


def _index(items: list, name: str, override: str) -> int:
    """The index of a list's item: 0, 1, … from its start, -1, -2, … from its end."""
    if not name.removeprefix("-").isdecimal() or not -len(items) <= int(name) < len(items):
        raise UsageError(f"--set {override}: {name} is no index in a list of {len(items)}")
    return int(name)


def check_plain(value, where: str = "", deep: int = 0):
    """UsageError names a value that no key can have, however deep: a date, NaN, a control character, …"""
    if deep > DEEPEST:
        raise UsageError(f"{where}: nested too deeply")
    if isinstance(value, dict):
        for name, inner in value.items():
            check_plain(inner, f"{where}.{key_text(name)}".removeprefix("."), deep + 1)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            check_plain(inner, f"{where}[{i}]", deep + 1)
    elif isinstance(value, str):
        if not value.isprintable():
            raise UsageError(f"{where}: {value[:60]!r} is not plain text")
    elif isinstance(value, (int, float)):
        if not math.isfinite(value if isinstance(value, float) else 0):
            raise UsageError(f"{where}: expected a finite number, got {value}")
        if abs(value) >= (2**63 if isinstance(value, int) else 1e38):  # float32's largest is 3.4e38
            raise UsageError(f"{where}: the number is too large")
    else:
        raise UsageError(f"{where}: no key takes a date or a time")


def dumps(config) -> str:
    """A dataclass of dataclasses as TOML, one section each, that reads back equal."""
    lines = []
    for name, part in vars(config).items():
        if dataclasses.is_dataclass(part):
            lines += ["", f"[{name}]"]
            lines += [f"{k} = {toml(v)}" for k, v in vars(part).items()]
        else:
            lines.append(f"{name} = {toml(part)}")
    return "\n".join(lines) + "\n"


def toml(value, indent: int = 0) -> str:
    """A value as TOML writes it."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key_text(k)} = {toml(v, indent)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        if not any(isinstance(v, dict) for v in value):
            return "[" + ", ".join(toml(v) for v in value) + "]"
        inner = "".join(f"{'  ' * (indent + 1)}{toml(v, indent + 1)},\n" for v in value)
        return f"[\n{inner}{'  ' * indent}]"
    return json.dumps(value)  # numbers, true, false; check_plain has refused all else


def key_text(name: str) -> str:
    """A key as TOML writes it, in quotes where it needs them."""
    return name if name.replace("_", "a").isalnum() and name.isascii() else toml(name)
