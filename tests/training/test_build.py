"""A net built from a config's layers."""

import pytest

from nets.common.errors import UsageError
from nets.training.build import build


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
        (["Flatten", "AdaptiveAvgPool2d"], "net.layers[1]: AdaptiveAvgPool2d needs pictures"),
        (
            ["Flatten", "BatchNorm2d"],
            "net.layers[1]: BatchNorm2d needs pictures, but its input is 64 numbers",
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
