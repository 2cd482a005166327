"""The geometry that convolution and pooling share: how it is described, and what does not fit."""

import pytest
import torch

from nets.common.errors import BatchError
from nets.layers.conv import Conv2d
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import AvgPool2d, MaxPool2d
from nets.layers.registry import LAYERS, examples
from nets.layers.whiten import Whiten2d


@pytest.mark.parametrize("wrong", [-1, 1.5, (1,), (1, 1, 1), (1, -1), "1"])
@pytest.mark.parametrize("name", ["kernel_size", "stride", "padding", "dilation"])
def test_windows_are_described_by_whole_numbers(name, wrong):
    options = dict(kernel_size=3) | {name: wrong}
    least = 0 if name == "padding" else 1
    with pytest.raises(ValueError, match=f"^{name} must be a whole number of at least {least}, or two"):
        Conv2d(3, 4, **options)
    if least == 1:
        with pytest.raises(ValueError, match=f"^{name} must be"):
            Conv2d(3, 4, **dict(kernel_size=3) | {name: 0})


@pytest.mark.parametrize(
    "layer",
    [
        Conv2d(3, 4, 3, dilation=2, padding=(1, 2)),
        MaxPool2d(3, dilation=2, padding=(1, 0)),
        AvgPool2d((5, 3), padding=(1, 0)),
    ],
)
def test_a_window_larger_than_the_image_is_refused(layer):
    x = torch.randn(2, 3, 2, 9)
    padded = f"4 × {9 + 2 * layer.windows.padding[1]}"
    with pytest.raises(BatchError, match=f"window of 5 × [35] is larger than the image, {padded}$"):
        layer.forward(x)
    assert layer.forward(torch.randn(2, 3, 3, 9))[0].shape[2] == 1  # this one just fits


@pytest.mark.parametrize(
    "layer, options",
    [
        (MaxPool2d, dict(padding=2)),
        (MaxPool2d, dict(padding=2, dilation=2)),
        (AvgPool2d, dict(padding=(0, 2))),
    ],
)
def test_a_pool_is_padded_by_at_most_half_a_window(layer, options):
    with pytest.raises(ValueError, match="padding must be at most half a window, not"):
        layer(3, **options)


SEE_PICTURES = [next(examples(cls)[0][1:] for _ in "1") for cls in LAYERS.values() if cls.takes_images]
SEE_PICTURES = [
    (layer, shape) for layer, shape in SEE_PICTURES if type(layer).__name__ != "LocalResponseNorm"
]


@pytest.mark.parametrize("missing", ["no batch", "no channels", "a depth"])
@pytest.mark.parametrize("layer, shape", SEE_PICTURES, ids=lambda v: type(v).__name__)
def test_layers_of_pictures_refuse_other_shapes(layer, shape, missing):
    """(C, H, W), (C, W) and (N, C, D, H, W). LocalResponseNorm takes any number of places."""
    name, (n, c, h, w) = type(layer).__name__, shape
    other = {"no batch": (c, h, w), "no channels": (c, w), "a depth": (n, c, 1, h, w)}[missing]
    with pytest.raises(BatchError, match=rf"{name} takes images \(N, C, H, W\), not \(.*{w}\)"):
        layer.forward(torch.randn(other))
    if isinstance(layer, Whiten2d):
        with pytest.raises(BatchError, match=name):
            layer.fit(torch.randn(other))


def test_the_layers_of_pictures_are_all_found():
    found = {type(layer).__name__ for layer, _ in SEE_PICTURES}
    pools = {"MaxPool2d", "AvgPool2d", "GlobalAvgPool", "GlobalMaxPool", "AdaptiveAvgPool2d"}
    assert found >= pools | {"Conv2d", "Whiten2d", BatchNorm2d.__name__}


def test_windows_are_printed_as_torch_prints_them():
    assert repr(MaxPool2d(3, 2, 1)) == "MaxPool2d(kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))"
    assert repr(AvgPool2d(2)) == "AvgPool2d(kernel_size=(2, 2), stride=(2, 2))"
    shown = "Conv2d(4, 6, kernel_size=(3, 3), stride=(1, 1), dilation=(2, 2), groups=2, bias=False)"
    assert repr(Conv2d(4, 6, 3, dilation=2, groups=2, bias=False)) == shown
    torchs = repr(torch.nn.Conv2d(4, 6, (3, 2), 2, 1))
    assert repr(Conv2d(4, 6, (3, 2), 2, 1)) == torchs
