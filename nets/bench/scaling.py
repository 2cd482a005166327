"""Scaling: the same race for several batch sizes, widths and depths, and the exponents of growth."""

import dataclasses
import math
from collections.abc import Iterable
from itertools import pairwise

import torch
from tqdm import tqdm

from nets.bench import forms
from nets.bench.race import race
from nets.common.errors import UsageError
from nets.training.config import Config

SIZES = {"batch": (1 / 8, 1 / 4, 1 / 2, 1), "width": (1 / 4, 1 / 2, 1, 2), "depth": (1, 2, 3, 4)}
PRODUCTS = {"Conv2d": "out_channels", "Linear": "out_features"}
POOLS, NESTED = ("MaxPool2d", "AvgPool2d"), ("Sequential", "Residual")
FLATTENERS = ("Flatten", "GlobalAvgPool", "GlobalMaxPool")


def scaling(task: forms.Task, form_list: list[forms.Form], rounds: int, steps: int) -> dict:
    """axis -> {"points": [a race's results and its size], "exponents": see exponents()}."""
    found = {}
    points = {axis: sizes(task.config, axis) for axis in SIZES}
    with tqdm(total=sum(map(len, points.values())), disable=None, leave=False, position=1) as bar:
        for axis, configs in points.items():
            races = []
            for size, conf in configs:
                bar.set_description(f"{axis} {size:g}")
                facts = race(dataclasses.replace(task, config=conf), form_list, rounds, steps)
                races.append({"size": size, **facts})
                bar.update()
            found[axis] = {"points": races, "exponents": exponents(races)}
    return found


def sizes(conf: Config, axis: str) -> list[tuple[float, Config]]:
    """(size, config) of each point. Batch sizes are in samples, widths and depths are factors."""
    found: dict[float, Config] = {}
    for size in SIZES[axis]:
        if axis == "batch":
            size = max(1, round(conf.train.batch_size * size))
            train = dataclasses.replace(conf.train, batch_size=size)
            found[size] = dataclasses.replace(conf, train=train)
        else:
            change = wider if axis == "width" else deeper
            net = dataclasses.replace(conf.net, layers=tuple(change(conf.net.layers, size)))
            found[size] = dataclasses.replace(conf, net=net)
    return list(found.items())


def _as_dicts(layers: Iterable) -> list[dict]:
    """A config's layers, those given by name alone as dicts too."""
    return [{"type": spec} if isinstance(spec, str) else dict(spec) for spec in layers]


def wider(layers: Iterable, factor: float, last: bool = True) -> list[dict]:
    """The layers, with `factor` times as many outputs in every hidden layer.

    last: are these the net's last layers? The net's outputs keep their number.
    """
    layers = _as_dicts(layers)
    ends = [i for i, spec in enumerate(layers) if spec["type"] in PRODUCTS]
    for i, spec in enumerate(layers):
        option = PRODUCTS.get(spec["type"])
        if option and not (last and i == ends[-1]):
            groups = spec.get("groups", 1)
            spec[option] = groups * max(1, round(spec[option] * factor / groups))
        for nested in ("layers", "body", "shortcut"):
            if nested in spec:
                spec[nested] = wider(spec[nested], factor, last=last and not ends and i + 1 == len(layers))
    return layers


def deeper(layers: Iterable, times: int) -> list[dict]:
    """The layers, with every hidden layer, and the layers between it and the next, `times` times.

    A copy has as many outputs as inputs: stride 1, half a window of padding, no pools.
    """
    layers = _as_dicts(layers)
    starts = [i for i, spec in enumerate(layers) if spec["type"] in PRODUCTS]
    if len(starts) < 2:
        raise UsageError("--scaling: net.layers has no hidden Conv2d or Linear to repeat")
    out = layers[: starts[0]]
    for begin, end in pairwise(starts):
        # layers that flatten the image aren't repeated
        flat = next((i for i in range(begin, end) if layers[i]["type"] in FLATTENERS), end)
        out += layers[begin:flat] + _copy(layers[begin:flat]) * (times - 1) + layers[flat:end]
    return out + layers[starts[-1] :]


def _copy(group: list[dict]) -> list[dict]:
    product, *followers = group
    if product["type"] == "Conv2d":
        size = product["kernel_size"]
        reach = product.get("dilation", 1) * (size - 1) if isinstance(size, int) else 1
        if reach % 2:
            return []  # an even window can't be centered
        product = product | {"stride": 1, "padding": reach // 2}
    return [product, *(spec for spec in followers if spec["type"] not in (*POOLS, *NESTED))]


def exponents(points: list[dict]) -> dict:
    """The slopes of log(ms) and log(memory) against log(size), for each form, by least squares.

    "flops" is the slope of the arithmetic.
    """
    at = [p["size"] for p in points]
    found: dict = {"flops": slope(at, [p["flops"] for p in points])}
    for i, form in enumerate(points[0]["forms"]):
        results = [p["forms"][i] for p in points]
        ms, memory = ([r[k] for r in results] for k in ("median_ms", "total_bytes"))
        found[form["form"]] = {"ms": slope(at, ms), "memory": slope(at, memory)}
    return found


def slope(x: list[float], y: list[float]) -> float:
    """b of the line a + b·log x nearest to log y by least squares; 0 for a single point."""
    if len(x) < 2:
        return 0.0
    log_x, log_y = (torch.tensor([math.log(v) for v in values], dtype=torch.float64) for values in (x, y))
    log_x, log_y = log_x - log_x.mean(), log_y - log_y.mean()
    return ((log_x @ log_y) / (log_x @ log_x)).item()
