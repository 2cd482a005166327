"""Random configs: each is read, or refused in one line that names the key; what fits also trains a step.

`FUZZ_MINUTES=10 python -m pytest -s -n 0 tests/training/test_config_fuzz.py` draws new ones for ten minutes;
without it, two hundred, or a thousand with --deep, the same every time.
"""

import dataclasses
import itertools
import os
import resource
import time
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import torch

from nets.common.device import memory_capacity
from nets.common.errors import DataError, NonFiniteError, UsageError
from nets.data import datasets as data
from nets.layers.response_norm import LocalResponseNorm
from nets.training import config
from nets.training import toml as toml_text
from nets.training.make import make_loss, make_net, make_optimizer
from nets.training.run import Run
from tests.training.config_fuzz import KEYS, Fuzz

MINUTES = float(os.environ.get("FUZZ_MINUTES", 0))


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


def learn(conf):
    """A step of a small net on eight samples, as a run takes it. Returns who refused it, or "learns"."""
    small = dataclasses.replace(conf.train, epochs=1, batch_size=8)
    conf = dataclasses.replace(conf, train=small, log=config.LogConfig())
    try:
        Run.from_config(conf, torch.device("cpu")).train()
    except (UsageError, DataError, NonFiniteError) as e:
        assert str(e).splitlines() == [str(e)]
        return type(e).__name__
    return "learns"


@pytest.fixture
def few_samples(monkeypatch):
    """Data sets of eight samples at most."""

    def few(load):
        def loader(*args):
            d = load(*args)
            cut = {k: getattr(d, k)[:8] for k in ("train_x", "train_y", "test_x", "test_y")}
            return dataclasses.replace(d, **cut)

        return loader

    for name in ("digits", "identity", "half_adder"):
        monkeypatch.setitem(data.LOADERS, name, few(data.LOADERS[name]))


def test_any_config_is_one_or_refused(tmp_path, request, few_samples):
    count = 1000 if request.config.getoption("--deep") else 200
    path, fates, learned = tmp_path / "c.toml", Counter(), Counter()
    end, first = time.monotonic() + 60 * MINUTES, time.time_ns() if MINUTES else 0
    for i in itertools.count():
        if i >= count and time.monotonic() >= end:
            break
        seed = first + i
        raw = Fuzz(seed).config()
        path.write_bytes(raw)
        begin, before = time.process_time(), peak()
        fate_, said = fate(path)
        assert fate_ == "fits" or named(said, raw, path), (seed, said)
        assert time.process_time() - begin < 5 and peak() - before < 300, seed
        fates[fate_] += 1
        if fate_ == "fits" and (i % 10 == 0 or MINUTES) and is_small(config.load(path)):
            learned[learn(config.load(path))] += 1
            assert time.process_time() - begin < 5 and peak() - before < 300, seed
    assert fates.total() >= count and min(fates[k] for k in ("load", "make", "fits")) >= count // 20
    assert learned["learns"]
    print(f"{fates.total()} configs: {dict(fates)}; steps: {dict(learned)}")


def is_small(conf) -> bool:
    """Of a data set that needs no files, and small enough to take a step of in a second."""
    sides = [side for side in conf.train.progressive_sizes if side > 16]
    return conf.data.source in ("digits", "identity", "half_adder") and not sides


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


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs /dev/fd")
def test_a_config_may_come_through_a_pipe():
    """As bash's <(…) gives it."""
    end, start = os.pipe()
    with open(start, "w") as file:
        file.write(LIKE.format(""))
    assert config.load(Path(f"/dev/fd/{end}")).net.layers
    os.close(end)


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
