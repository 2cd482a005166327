"""From a config's list of layers to a net: classes of one's own."""

import textwrap

import pytest
import torch

from nets.common.errors import UsageError
from nets.training.build import build
from nets.training.validate import refusal

MODULE = '''
import torch
from nets import Layer, Residual, Sequential


class Half(Residual):
    def forward(self, x):
        y, saved = super().forward(x)
        return y / 2, saved


class Double(Sequential):
    pass


class Take(Layer):
    """Features along one axis, by a table that is neither a parameter nor a buffer."""

    def __init__(self, dim: int = -1):
        super().__init__()
        self.dim, self.table = dim, torch.ones(4)

    def forward(self, x):
        return x * self.table, None

    def backward(self, saved, dy):
        return dy * self.table, {}


class Mine(Exception):
    def __str__(self):
        raise KeyError


class Raises(Layer):
    def __init__(self, what: str = "", late: bool = False):
        super().__init__()
        self.what, self.late = what, late

    def forward(self, x):
        if not self.late or len(x) == 3:
            raise {"mine": Mine, "empty": ValueError, "zero": ZeroDivisionError}[self.what]()
        return x, None
'''


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "own_layers_for_build.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("spec", [{"type": "Half", "body": ["ReLU"]}, {"type": "Double", "layers": ["ReLU"]}])
def test_a_net_class_of_ones_own_is_refused_and_not_replaced(spec):
    spec = spec | {"type": f"own_layers_for_build:{spec['type']}"}
    with pytest.raises(UsageError, match=r"net\.layers\[0\]: a class of one's own can't have layers inside"):
        build([spec], (4,))


def test_whole_numbers_of_ones_own_class_can_be_negative():
    net, shape = build([{"type": "own_layers_for_build:Take", "dim": -1}], (4,))
    assert net[0].dim == -1 and shape == (4,)
    with pytest.raises(UsageError, match="out_features: must be at least 1"):
        build([{"type": "Linear", "out_features": -1}], (4,))


def test_a_plain_tensor_of_a_layer_doesnt_make_it_refused():
    net, _ = build(["own_layers_for_build:Take"], (4,))
    assert refusal(net, (2, 4)) == "" and torch.equal(net[0].table, torch.ones(4))


def layer(**options):
    return [options]


@pytest.mark.parametrize(
    "layers, message",
    [
        (["Relu"], 'net.layers[0]: no layer is called "Relu"; did you mean "ReLU"?'),
        (["ReLU", 3], "net.layers[1]: a layer is a name or a table"),
        (
            layer(type="Conv2d", out_channel=3, kernel_size=3),
            'no option "out_channel"; did you mean "out_channels"?',
        ),
        (layer(type="Conv2d", in_channels=1, out_channels=3, kernel_size=3), 'no option "in_channels"'),
        (layer(type="Conv2d", out_channels=3), "kernel_size"),
        (layer(type="Conv2d", out_channels="3", kernel_size=3), "net.layers[0].out_channels: expected int"),
        (layer(type="Conv2d", out_channels=0, kernel_size=3), "out_channels: must be at least 1"),
        (layer(type="Conv2d", out_channels=3, kernel_size=9), "Conv2d on an input of 1 × 8 × 8"),
        (layer(type="Conv2d", out_channels=3, kernel_size=3, stride=0), "stride must be a whole number"),
        (layer(type="Conv2d", out_channels=3, kernel_size=3, groups=2), "groups"),
        (
            layer(type="Conv2d", out_channels=3, kernel_size=3, kernel="fast"),
            "Conv2d.kernel: renamed to net.backend",
        ),
        (layer(type="MaxPool2d", kernel_size=2.5), "kernel_size"),
        (layer(type="Dropout", p=2), "probability"),
        (layer(type="ReLU", x=1), 'no option "x"'),
        (layer(type="Scale", factor=float("inf")), "factor: expected float"),
        (layer(type="Linear", out_features=3, init_bound="x"), "init_bound: expected float"),
        (layer(type="BatchNorm2d", eps=-1.0), "eps must be over 0"),
        (layer(type="Sequential", layers=[]), "layers: expected a list"),
        (layer(type="AdaptiveAvgPool2d", output_size=[2, 0]), "output_size must be a whole number"),
        (["Flatten", "AdaptiveAvgPool2d"], "net.layers[1]: AdaptiveAvgPool2d needs images"),
        (
            ["Flatten", "BatchNorm2d"],
            "net.layers[1]: BatchNorm2d needs images, but its input is 64 numbers",
        ),
        (layer(type="Residual"), "needs body"),
        (layer(type="Residual", body=[]), "net.layers[0].body: expected a list"),
        (layer(type="Residual", body=["Relu"]), "net.layers[0].body[0]: no layer"),
        (
            layer(type="Residual", body=[{"type": "Conv2d", "out_channels": 4, "kernel_size": 3}]),
            "body gives 4 × 6 × 6, the shortcut 1 × 8 × 8",
        ),
    ],
)
def test_a_wrong_layer_is_named(layers, message):
    with pytest.raises(UsageError) as e:
        build(layers, (1, 8, 8))
    assert message in str(e.value)


def test_build_fills_in_sizes():
    conv = {"type": "Conv2d", "out_channels": 4, "kernel_size": 3, "padding": 1}
    body = [conv, "BatchNorm2d", "ReLU"]
    around = [{"type": "Conv2d", "out_channels": 4, "kernel_size": 1}]
    net, out = build(
        [
            {"type": "Residual", "body": body, "shortcut": around},
            {"type": "AdaptiveAvgPool2d", "output_size": [8, 9]},
            {"type": "Sequential", "layers": [{"type": "MaxPool2d", "kernel_size": 2}, "Flatten"]},
            {"type": "Linear", "out_features": 7},
        ],
        (3, 8, 8),
        recompute=True,
    )
    assert out == (7,)
    shapes = {k: tuple(v.shape) for k, v in net.params.items()}
    assert shapes["0.body.0.weight"] == (4, 3, 3, 3) and shapes["3.weight"] == (7, 4 * 4 * 4)
    inner = net.children["0"].children["body"]
    assert net.recompute and inner.recompute


@pytest.mark.parametrize(
    "what, words", [("mine", "Mine: (its text"), ("empty", "ValueError"), ("zero", "Zero")]
)
def test_whatever_ones_own_layer_raises_is_one_line(what, words):
    spec = {"type": "own_layers_for_build:Raises", "what": what}
    with pytest.raises(UsageError) as e:
        build([spec], (4,))
    assert str(e.value).startswith("net.layers[0]: own_layers_for_build:Raises on an input of 4: ")
    assert words in str(e.value) and "own_layers_for_build.py, line " in str(e.value)
    net, _ = build([spec | {"late": True}], (4,))
    assert refusal(net, (2, 4)) == "" and refusal(net, (3, 4))
