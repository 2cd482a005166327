"""Random configs: each is read, or refused in one line that names the key.

`python -m pytest -s tests/training/test_config_fuzz.py --deep` tries a thousand; without it, two hundred.
"""

import dataclasses
import datetime
import inspect
import math
import os
import re
import resource
import threading
import time
import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from nets.common.device import memory_capacity
from nets.common.errors import UsageError
from nets.data import datasets as data
from nets.layers.response_norm import LocalResponseNorm
from nets.training import config
from nets.training import toml as toml_text
from nets.training.build import LAYERS
from nets.training.make import make_loss, make_net, make_optimizer
from nets.training.renamed import RENAMED
from nets.training.run import Run

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


def stub(conf):
    """A sample's shape and the number of outputs, whatever lies on the disk."""
    d = conf.data
    side = d.crop_size or d.size or 8
    return data.SHAPES.get(d.source) or ((d.channels, side, side), d.num_classes or 10)


def fate(path) -> tuple[str, str]:
    """What becomes of a config: (who refused it, or "fits", and what was said)."""
    try:
        conf = config.load(path)
    except UsageError as e:
        return "load", str(e)
    again = path.with_name("again.toml")
    again.write_text(config.dumps(conf), encoding="utf-8")
    assert config.load(again) == conf
    shape, outputs = stub(conf)
    try:
        with torch.device("meta"):
            net = make_net(conf, shape, outputs)
            make_optimizer(conf, net, make_loss(conf, len(shape) == 3))
            net.forward(torch.empty(2, *shape))
        size = sum(t.nbytes for t in (net.params | net.buffers).values())
        if size < 10**6 or size > memory_capacity():
            make_net(conf, shape, outputs)
            assert size < 10**6
    except UsageError as e:
        return "make", str(e)
    return "fits", ""


def named(said: str, raw: bytes, path) -> bool:
    """Does the message begin with a key, also a default one, or with the file where it isn't TOML?"""
    try:
        keys = tomllib.loads(raw.decode()).keys()
    except (ValueError, RecursionError):
        return said.startswith(f"config {path}: ")
    return said.startswith(("name: ", "net.layers: ", "train.loss: ", *map(toml_text.key_text, keys)))


def test_any_config_is_one_or_refused(tmp_path, request):
    count = 1000 if request.config.getoption("--deep") else 200
    path, fates = tmp_path / "c.toml", Counter()
    for seed in range(count):
        raw = Fuzz(seed).config()
        path.write_bytes(raw)
        begin, before = time.process_time(), peak()
        fate_, said = fate(path)
        assert fate_ == "fits" or named(said, raw, path), (seed, said)
        assert time.process_time() - begin < 5 and peak() - before < 300, seed
        fates[fate_] += 1
    assert fates.total() == count and min(fates[k] for k in ("load", "make", "fits")) >= count // 20
    print(f"{count} configs: {dict(fates)}")


def peak() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("part, name, default", KEYS, ids=lambda k: k if isinstance(k, str) else "")
def test_every_key_is_named(part, name, default, tmp_path):
    """With a value of each other kind, and with numbers that none can hold."""
    wrong = {bool: "true", int: "7", float: "0.5", str: '"a\\nb"', list: "[[]]", dict: "{ a = 1 }"}
    kind = list if type(default) is tuple else type(default)
    values = [v for k, v in wrong.items() if k is not kind and not (kind is float and k is int)]
    values += ["1979-05-27", "07:32:00", "nan", "-inf", "1e40", "-1e300", str(2**63), hex(16**5000)]
    for value in values:
        (tmp_path / "c.toml").write_text(f"{part}.{name} = {value}\n")
        with pytest.raises(UsageError) as e:
            config.load(tmp_path / "c.toml")
        assert str(e.value).startswith(f"{part}.{name}")


def test_values_inside_layers_and_groups_are_named(tmp_path):
    for value in ("nan", "1979-05-27", hex(16**5000), '"\\u0000"', "[[1e300]]", "{ a = [inf] }"):
        for where in ("net.layers", "train.param_groups"):
            (tmp_path / "c.toml").write_text(f"{where} = [1, {{ type = 'ReLU', x = {value} }}]\n")
            with pytest.raises(UsageError) as e:
                config.load(tmp_path / "c.toml")
            assert str(e.value).startswith(f"{where}[1].x")


LIKE = '[net]\nlayers = ["Flatten", {{ type = "Linear", out_features = 10 }}{}]\n'


def test_a_config_without_end_is_not_read(tmp_path):
    with pytest.raises(UsageError, match="/dev/zero: more than 262,144 bytes"):
        config.load("/dev/zero")
    (tmp_path / "c.toml").write_text(LIKE.format("") + "#" * toml_text.LARGEST)
    with pytest.raises(UsageError, match=r"c\.toml: more than"):
        config.load(tmp_path / "c.toml")


def test_a_config_may_come_through_a_pipe(tmp_path):
    """As bash's <(…) gives it."""
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=[LIKE.format("")])
    writer.start()
    assert config.load(tmp_path / "pipe").name == "pipe"
    writer.join()


@pytest.mark.parametrize("deep", [5, 23, 24, 100])
def test_layers_in_layers(deep, tmp_path):
    nested = '{ type = "Sequential", layers = [' * deep + '"ReLU"' + "] }" * deep
    (tmp_path / "c.toml").write_text(LIKE.format(", " + nested))
    if deep < 24:
        net = make_net(config.load(tmp_path / "c.toml"), (1, 8, 8), 10)
        assert net.params.keys() == {"1.weight", "1.bias"}
        return
    with pytest.raises(UsageError, match=r"net\.layers.*: nested too deeply"):
        config.load(tmp_path / "c.toml")


@pytest.mark.parametrize(
    "layers, largest",
    [
        (', { type = "Linear", out_features = 1000000000000 }', "2.weight"),
        (', { type = "Linear", out_features = 10000000 }' * 2, "3.weight"),
        ("".join(f', {{ type = "Linear", out_features = {n} }}' for n in [100_000] * 20), ".weight"),
    ],
)
def test_more_weights_than_memory_are_refused_before_there_are_any(layers, largest, tmp_path):
    (tmp_path / "c.toml").write_text(LIKE.format(layers))
    before = peak()
    said = rf"net.layers: [\d,]+ MB for the weights, most of them in .*{largest}, are"
    with pytest.raises(UsageError, match=said):
        make_net(config.load(tmp_path / "c.toml"), (1, 8, 8), 10)
    assert peak() - before < 50


def test_in_training_there_must_be_room_for_gradients_too(tmp_path, monkeypatch):
    (tmp_path / "c.toml").write_text(LIKE.format(""))
    conf = config.load(tmp_path / "c.toml")
    monkeypatch.setattr("nets.training.make.memory_capacity", lambda: 2 * 650 * 4)
    make_net(conf, (1, 8, 8), 10, copies=2)
    with pytest.raises(UsageError, match="MB for the weights"):
        Run.from_config(conf, torch.device("cpu"), tmp_path / "run")


@pytest.mark.parametrize("size", [10**9, 2**62])
def test_a_window_wider_than_the_channels(size):
    """Takes no longer than one that is just as wide."""
    x = torch.randn(2, 5, 3, 3, dtype=torch.float64)
    y, _ = LocalResponseNorm(size, alpha=size, beta=0.5).forward(x)
    torch.testing.assert_close(y, torch.nn.functional.local_response_norm(x, 11, alpha=11, beta=0.5))
