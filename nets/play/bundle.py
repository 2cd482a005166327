"""The page from its parts: one HTML file with style, scripts and weights inside it."""

import json
import re
from importlib import resources

# in the order in which they need each other
SCRIPTS = (
    "exp", "layers", "images", "adaptive", "chain", "cross", "neuron", "loaded", "drawing",
    "dom", "theme", "mosaic", "wires", "contours", "history", "code", "training",
    "neuron_pictures", "scene_neuron",
    "chain_pictures", "chain_panels", "scene_chain",
    "cross_pictures", "cross_panels", "scene_cross",
    "digits_panels", "scene_digits",
    "main",
)  # fmt: skip
IMPORT = re.compile(r'^import (\{.*?\}) from "\./([a-z_]+)\.js";$', re.M | re.S)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.M)


def part(name: str) -> str:
    """The text of a file of this package."""
    return resources.files("nets.play").joinpath(name).read_text(encoding="utf-8")


def script(names=SCRIPTS) -> str:
    """The modules as one script: each is a function that returns what it exports."""
    return "\n".join(["const modules = {};", *map(_module, names)])


def _module(name: str) -> str:
    text = part(f"{name}.js")
    exports = ", ".join(EXPORT.findall(text))
    body = EXPORT.sub("", IMPORT.sub(r"const \1 = modules.\2;", text))
    return f"modules.{name} = (() => {{ // {name}.js\n{body}return {{ {exports} }};\n}})();"


def page(net: dict | None = None) -> str:
    """The page with a net for its last scene, as `to_json` returns it; by default the shipped digits net."""
    weights = part("digits.json") if net is None else json.dumps(net)
    filled = {
        "style": part("style.css"),
        "net": weights.strip().replace("</", "<\\/"),
        "examples": part("examples.json").strip(),
        "script": script(),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda m: filled[m[1]], part("page.html"))
