"""Wider and deeper nets, and the exponents of growth."""

import json
import math

import pytest
from matplotlib.image import imread

from nets.bench import forms, scaling
from nets.common.errors import UsageError
from tests.bench.common import CPU, command, numbers, task


def test_wider_and_deeper_nets():
    layers = task("cifar10").config.net.layers
    wide = scaling.wider(layers, 2)
    assert [s["out_channels"] for s in wide if s["type"] == "Conv2d"] == [128, 128, 512, 512, 512, 512]
    assert wide[-2]["out_features"] == 10
    deep = [s["type"] for s in scaling.deeper(layers, 3)]
    assert deep.count("Conv2d") == deep.count("BatchNorm2d") == 18 and deep.count("MaxPool2d") == 3
    assert deep.count("Whiten2d") == deep.count("Linear") == 1
    assert [s.get("out_features") for s in scaling.deeper(task("dense").config.net.layers, 2)] == [
        None, 64, None, 64, None, 10, None,
    ]  # fmt: skip
    for axis in scaling.SIZES:
        for _, conf in scaling.sizes(task("digits").config, axis):
            net, _, x, _ = forms.prepare(forms.Task(conf, (1, 8, 8), 10, CPU))
            assert net.forward(x)[0].shape == (len(x), 10)
    with pytest.raises(UsageError, match="no hidden Conv2d or Linear"):
        scaling.deeper(["Flatten", {"type": "Linear", "out_features": 10}], 2)


def test_scaling_writes_exponents_and_a_plot(in_process, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(scaling, "SIZES", {"batch": (1 / 2, 1), "width": (1, 2), "depth": (1, 2)})
    args = ("--scaling", "--forms", "manual,autograd", "--rounds", 1, "--steps", 1)
    command("cross", *args, "--json", tmp_path / "s.json", "--plot", tmp_path / "s.png")
    assert "manual ms" in capsys.readouterr().out
    found = json.loads((tmp_path / "s.json").read_text())["scaling"]
    assert found.keys() == {"batch", "width", "depth"} and all(map(math.isfinite, numbers(found)))
    assert found["batch"]["exponents"]["flops"] == pytest.approx(1)
    assert found["depth"]["points"][1]["parameters"] == 12 + 6
    assert imread(tmp_path / "s.png").shape[2] == 4


def test_slope_of_a_power_law():
    assert scaling.slope([1, 2, 4, 8], [3 * n**1.5 for n in (1, 2, 4, 8)]) == pytest.approx(1.5)
    assert scaling.slope([4], [3]) == 0
