"""What the tests of the bench share."""

from pathlib import Path

import torch

from nets.bench import forms
from nets.commands.bench import main
from nets.data import datasets as data
from nets.training import config

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def command(name, *args):
    main([name, "--device", "cpu", *map(str, args)])


def numbers(value):
    """Every number in the result of json.loads."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for v in value:
            yield from numbers(v)
    elif isinstance(value, (int, float)):
        yield value


def task(name, *overrides):
    conf = config.load(ROOT / "configs" / f"{name}.toml", overrides)
    return forms.Task(conf, *data.shapes(conf.data), CPU)
