"""Configs made from the shipped ones: other bytes, other lines, other values."""

import dataclasses
import datetime
import inspect
import math
import re
import tomllib
from pathlib import Path

import numpy as np

from nets.training import config
from nets.training.build import LAYERS
from nets.training.renamed import RENAMED

SHIPPED = [p.read_text() for p in sorted(Path(__file__).parents[2].glob("configs/*.toml"))]
NUMBERS = [0, 1, -1, 2, 3, 7, 64, 255, 1000, 10**6, 10**9, 2**31, 2**62, 2**63 - 1, 2**63, 10**30, 16**5000]
FRACTIONS = [0.0, -0.0, 0.5, 1.0, 1.5, -1.0, 1e-300, 1e30, 1e308, math.inf, -math.inf, math.nan]
TEXTS = ["", " ", "a", "ReLU", "native", "bfloat16", "é", "日本", "\0", "\n", "\x1b[2J", "..", "/", "*", "[*"]
TEXTS += ["x" * 5000]
BYTES = [b"\xff", b"\0", b"=", b"[", b"]", b'"', b"\n", b"9", b"-", b".", b"{", b""]


class Fuzz:
    """Changes to configs, all from one seed."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)

    def one(self, items):
        return items[self.rng.integers(len(items))]

    def config(self) -> bytes:
        text = self.one(SHIPPED)
        kind = self.rng.random()
        if kind < 0.2:
            return self.bytes(text.encode())
        if kind < 0.35:
            return self.lines(text)
        table = tomllib.loads(text)
        for _ in range(self.rng.integers(1, 4)):
            self.values(table)
        return written(table).encode()

    def bytes(self, raw: bytes) -> bytes:
        raw = bytearray(raw)
        for _ in range(self.rng.integers(1, 5)):
            at = self.rng.integers(len(raw) + 1)
            change = self.rng.integers(4)
            if change == 0:
                del raw[at:]
            elif change == 1:
                raw[at:at] = self.rng.bytes(self.rng.integers(1, 4))
            elif change == 2:
                raw[at : at + 1] = self.one(BYTES)
            else:
                del raw[at : at + self.rng.integers(1, 30)]
        return bytes(raw)

    def lines(self, text: str) -> bytes:
        lines = text.splitlines()
        for _ in range(self.rng.integers(1, 4)):
            i, j = self.rng.integers(len(lines), size=2)
            change = self.rng.integers(4)
            if change == 0:
                lines[i], lines[j] = lines[j], lines[i]
            elif change == 1:
                lines.insert(i, lines[j])
            elif change == 2:
                lines[i] = ""
            else:
                lines[i] = re.sub(r"-?\d+(\.\d+)?", lambda _: toml(self.value()), lines[i])
        return "\n".join(lines).encode("utf-8", "surrogatepass")

    def value(self, depth: int = 0):
        kind = self.rng.integers(9)
        if kind < 3:
            return self.one(NUMBERS) * int(self.one([1, 1, 1, -1]))
        if kind == 3:
            return self.one(FRACTIONS)
        if kind == 4:
            return self.one(TEXTS)
        if kind == 5:
            return self.one([True, False, datetime.date(1979, 5, 27), datetime.time(7, 32)])
        if kind == 6 and depth < 3:
            return [self.value(depth + 1) for _ in range(self.rng.integers(4))]
        if kind == 7 and depth < 3:
            return {self.one(TEXTS): self.value(depth + 1) for _ in range(self.rng.integers(3))}
        deep = self.one([3, 30, 60, 200])
        nested = "ReLU"
        for _ in range(deep if kind == 8 and depth == 0 else 3):
            nested = {"type": "Sequential", "layers": [nested]} if deep % 20 else [nested]
        return nested

    def values(self, table):
        """Change something somewhere in a table."""
        places = [*walk(table)]
        holder, key = self.one(places)
        change = self.rng.random()
        if change < 0.4:
            holder[key] = self.value()
        elif change < 0.5:
            del holder[key]
        elif change < 0.6 and isinstance(holder, dict):
            holder[self.one([key + "s", key.upper(), key[:-1], *TEXTS])] = holder.pop(key)
        elif change < 0.75:
            part, name, default = self.one(KEYS if self.rng.random() < 0.9 else OLD_KEYS)
            given = table.get(part)
            table[part] = (given if isinstance(given, dict) else {}) | {name: self.near(default)}
        else:
            net = table.get("net")
            layers = net.get("layers") if isinstance(net, dict) else None
            layers = layers if isinstance(layers, list) else []
            at = self.rng.integers(len(layers) + 1)
            layers[at : at + self.rng.integers(2)] = [self.layer()]

    def near(self, default):
        """A value of a default's own type, mostly."""
        if self.rng.random() < 0.2:
            return self.value()
        kinds = {bool: [True, False], int: NUMBERS, float: FRACTIONS + NUMBERS, str: TEXTS}
        if isinstance(default, tuple):
            return [self.value() for _ in range(self.rng.integers(3))]
        return self.one(kinds[type(default)])

    def layer(self):
        name = self.one([*LAYERS])
        options = {"type": name}
        for option in inspect.signature(LAYERS[name]).parameters:
            if self.rng.random() < 0.6:
                options[option] = self.one([1, 2, 3, 3, self.one(NUMBERS), self.one(FRACTIONS), self.value()])
        return options


def fields():
    for part in dataclasses.fields(config.Config):
        for f in dataclasses.fields(part.type) if dataclasses.is_dataclass(part.type) else ():
            yield part.name, f.name, f.default


KEYS = [*fields()]
OLD_KEYS = [(*key.split("."), 0) for key in RENAMED if key.count(".") == 1]


def walk(node):
    """Every place of a tree: (what holds it, its key)."""
    for key in [*node] if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], (dict, list)):
            yield from walk(node[key])


def toml(value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) > 10**4000:
        return ("-" if value < 0 else "") + hex(abs(value))
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(k)} = {toml(v)}" for k, v in value.items()) + "}"
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value) + '"'


def written(table) -> str:
    return "\n".join(f"{toml(k)} = {toml(v)}" for k, v in table.items())
