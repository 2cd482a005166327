"""What the site adds to its pages: parts of other files, and lists made from the code.

<!-- include FILE -->            a file of the repository's root, for example CHANGELOG.md
<!-- include FILE, SECTION -->   one section of it, without its heading
<!-- config-reference -->        every key of a config, from the dataclasses of nets/training/config.py
<!-- command-reference -->      what --help prints for each command
<!-- api-reference -->           every name that `from nets import …` gives
<!-- layer-reference -->         every layer that a config can name, from the registry of nets/layers
"""

import dataclasses
import inspect
import io
import os
import re
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[1]


def on_config(config):
    sys.path.insert(0, str(ROOT))  # the nets that are described are those of this checkout


def on_page_markdown(markdown: str, **_) -> str:
    markdown = re.sub(r"<!-- include (\S+?)(?:, (.+?))? -->", lambda m: include(*m.groups()), markdown)
    for made in (api_reference, command_reference, config_reference, layer_reference):
        mark = f"<!-- {made.__name__.replace('_', '-')} -->"
        if mark in markdown:
            markdown = markdown.replace(mark, made())
    # a list of errors names methods such as Layer.__init__(), which Markdown would print in bold
    return re.sub(r"^- `.*", lambda m: m[0].replace("__", r"\_\_"), markdown, flags=re.M)


def include(file: str, section: str | None = None) -> str:
    """A file of the root, or one section of it, with its links made relative to docs/."""
    text = (ROOT / file).read_text(encoding="utf-8")
    if section:
        found = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
        if not found:
            raise KeyError(f"{file} has no section {section}")
        text = found[1]
    return text.replace("](docs/", "](").replace("](CONTRIBUTING.md", "](contributing.md")


def api_reference() -> str:
    import nets

    lines = ["| name | |", "|---|---|"]
    for name in nets.__all__:
        thing = getattr(nets, name)
        if callable(thing):
            lines.append(f"| [`{name}`][{thing.__module__}.{thing.__qualname__}] | {_summary(thing)} |")
    return "\n".join(lines)


def _summary(thing) -> str:
    """The first paragraph of a docstring, in a cell of a table."""
    text = (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")
    return re.sub(r"[|*_[]", r"\\\g<0>", text)


def command_reference() -> str:
    from nets import commands

    os.environ["COLUMNS"] = "100"
    parts = [f"```text\n{commands.usage()}\n```"]
    for name in commands.COMMANDS:
        parts += [f"## nets {name}", f"```text\n{commands.load(name).parser().format_help()}```"]
    return "\n\n".join(parts)


def config_reference() -> str:
    from nets.training import config

    top = [f for f in dataclasses.fields(config.Config) if not dataclasses.is_dataclass(f.type)]
    parts = [_keys("", config.Config, top)]
    for f in dataclasses.fields(config.Config):
        if dataclasses.is_dataclass(f.type):
            parts += [f"### [{f.name}]", inspect.getdoc(f.type), _keys(f"{f.name}.", f.type)]
    return "\n\n".join(parts)


def _keys(prefix: str, cls, fields=None) -> str:
    comments = _comments(cls)
    lines = ["| key | default | values | meaning |", "|---|---|---|---|"]
    for f in fields or dataclasses.fields(cls):
        default = "" if f.default is dataclasses.MISSING else f"`{_toml(f.default)}`"
        meaning = comments.get(f.name, "").replace("|", r"\|")
        lines.append(f"| `{prefix}{f.name}` | {default} | {_values(f)} | {meaning} |")
    return "\n".join(lines)


def _toml(value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _values(f) -> str:
    rules = f.metadata
    if rules.get("among"):
        return ", ".join(f"`{_toml(value)}`" for value in rules["among"])
    words = {int: "whole number", float: "number", str: "text", bool: "true or false", tuple: "list"}
    kind = words.get(f.type, str(f.type))
    limits = {"least": "at least", "over": "more than", "most": "at most"}
    found = [f"{limits[k]} {rules[k]:,}" for k in limits if rules.get(k) is not None]
    return ", ".join([kind, *found])


def _comments(cls) -> dict[str, str]:
    """The comment that a dataclass has on each of its fields, by the field's name."""
    name, found = None, {}
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(cls)).readline):
        start = re.match(r"    (\w+): ", token.line) if token.start[1] == 4 else None
        name = start[1] if start else name
        if token.type == tokenize.COMMENT and name:
            found[name] = f"{found.get(name, '')} {token.string.lstrip('# ')}".strip()
    return found


def layer_reference() -> str:
    from nets.layers.registry import LAYERS

    lines = ["| layer | options | |", "|---|---|---|"]
    for name, cls in sorted(LAYERS.items()):
        options = ", ".join(
            f"`{p.name}`" if p.default is p.empty else f"`{p.name} = {_toml(p.default)}`"
            for p in inspect.signature(cls).parameters.values()
            if p.kind is not p.VAR_POSITIONAL
        )
        lines.append(f"| [`{name}`][{cls.__module__}.{cls.__qualname__}] | {options} | {_summary(cls)} |")
    return "\n".join(lines)
