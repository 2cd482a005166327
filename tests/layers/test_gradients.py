"""Every layer of the registry in every form: forward and backward against torch, autograd and differences."""

import pytest
import torch

from nets.common.errors import BatchError
from nets.layers.base import run_backward
from nets.layers.registry import LAYERS
from tests.helpers import DEVICES, check_layer, check_slopes, subjects
from tests.strategies.layers import REFERENCES

ROWS = [(3, 5), (2, 3, 5, 7), (1, 1), (0, 3)]
POOLS = [  # (shape of x, options)
    ((2, 3, 8, 8), dict(kernel_size=2)),
    ((2, 3, 9, 7), dict(kernel_size=2)),
    ((2, 3, 9, 10), dict(kernel_size=3, stride=2)),  # overlapping, as AlexNet's
    ((2, 3, 9, 10), dict(kernel_size=3, stride=2, padding=1)),
    ((2, 3, 7, 7), dict(kernel_size=3, stride=1, padding=1)),
    ((1, 2, 9, 8), dict(kernel_size=(2, 3), stride=(1, 2), padding=(1, 0))),
    ((1, 2, 9, 8), dict(kernel_size=2, stride=3)),
    ((1, 2, 2, 2), dict(kernel_size=5, stride=1, padding=2)),  # wider than the picture
]
CONVS = [
    ((2, 3, 8, 8), dict(kernel_size=3, padding=1)),
    ((2, 3, 9, 7), dict(kernel_size=3)),
    ((1, 1, 5, 5), dict(kernel_size=1)),
    ((2, 3, 9, 8), dict(kernel_size=2, stride=2)),
    ((2, 3, 10, 11), dict(kernel_size=3, stride=2)),  # left-over rows and columns
    ((2, 3, 11, 10), dict(kernel_size=3, stride=3, padding=1)),
    ((2, 3, 13, 9), dict(kernel_size=3, stride=2, padding=2, dilation=2)),
    ((2, 3, 9, 10), dict(kernel_size=(1, 3), stride=(1, 2), padding=(0, 2))),
    ((2, 3, 9, 10), dict(kernel_size=(3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 3))),
    ((2, 4, 7, 9), dict(kernel_size=3, padding=1, groups=2)),
    ((2, 4, 8, 9), dict(kernel_size=3, stride=2, padding=1, groups=4)),  # depthwise
    ((2, 3, 9, 9), dict(kernel_size=5, padding=4, stride=4, bias=False)),
    ((0, 3, 6, 6), dict(kernel_size=3)),
]
# More than each layer's own examples: every branch, odd sizes, nothing at all.
GRIDS = {
    **{name: [(shape, {}) for shape in ROWS] for name in ("Sigmoid", "Tanh", "ReLU", "SiLU")},
    "GELU": [(shape, dict(approximate=a)) for shape in ROWS for a in ("none", "tanh")],
    "Scale": [((3, 5), dict(factor=0.3))],
    "Dropout": [((50, 20), dict(p=p)) for p in (0.0, 0.3, 0.9, 1.0)],
    "Flatten": [((3, 2, 5, 4), {}), ((0, 2, 3), {})],
    "Linear": [
        (shape, dict(in_features=7, out_features=5, bias=bias))
        for shape in [(4, 7), (1, 7), (2, 3, 7), (0, 7)]
        for bias in (True, False)
    ],
    "Conv2d": [(shape, dict(in_channels=shape[1], out_channels=8) | options) for shape, options in CONVS],
    "Whiten2d": [((3, 3, 9, 8), dict(in_channels=3, kernel_size=k)) for k in (2, 3, (1, 2), (3, 1))],
    "AvgPool2d": POOLS,
    "MaxPool2d": [
        *POOLS,
        ((1, 2, 11, 9), dict(kernel_size=3, stride=2, padding=1, dilation=2)),
        ((1, 2, 8, 9), dict(kernel_size=(2, 3), stride=1, dilation=(3, 1))),
    ],
    **{
        name: [(shape, {}) for shape in [(2, 3, 5, 4), (2, 3, 4, 5), (1, 2, 1, 1)]]
        for name in ("GlobalAvgPool", "GlobalMaxPool")
    },
    "AdaptiveAvgPool2d": [
        ((2, 3, 7, 8), dict(output_size=3)),  # windows that overlap, and of several sizes
        ((2, 3, 13, 9), dict(output_size=(6, 4))),
        ((2, 3, 8, 6), dict(output_size=(4, 6))),  # side by side; places as they are
        ((2, 3, 7, 8), dict(output_size=1)),  # the whole picture
        ((1, 2, 3, 2), dict(output_size=(7, 5))),  # more windows than places
        ((0, 3, 5, 5), dict(output_size=2)),
    ],
    "BatchNorm2d": [
        (shape, dict(num_features=shape[1], eps=1e-3, momentum=0.3, affine=affine))
        for shape in [(4, 3, 5, 7), (2, 1, 1, 1), (1, 3, 2, 2)]
        for affine in (True, False)
    ],
    "LocalResponseNorm": [  # windows narrower and wider than the channels, odd and even
        (shape, dict(size=size, alpha=0.7, beta=0.6, k=1.3))
        for size in (1, 2, 3, 5, 8)
        for shape in [(2, 7, 4, 5), (2, 3, 4, 5), (2, 4, 6), (1, 5, 2, 2, 3), (0, 3, 4, 4)]
    ],
}
SUBJECTS = subjects(GRIDS)


def random(shape):
    return torch.randn(shape, dtype=torch.float64)


def ties(shape):
    """Whole numbers: a window's largest occurs more than once, and many are exactly 0."""
    return torch.randint(-1, 2, shape).double()


def special(shape):
    """Random numbers with zeros, ones and large values among them."""
    x = torch.randn(shape, dtype=torch.float64)
    flat = x.view(-1)
    for i, value in enumerate((0.0, -0.0, 1.0, -1.0, 30.0, -30.0, 1e-300)):
        flat[i :: len(flat) // 3 + 7] = value
    return x


def far_from_zero(shape):
    return torch.randn(shape, dtype=torch.float64) * 3 + 5


def values(name, shape):
    """The inputs to try on a layer."""
    makers = [random, ties]
    makers += [] if LAYERS[name].takes_images else [special]
    makers += [far_from_zero] if name == "BatchNorm2d" else []
    return [make(shape) for make in makers]


def prepared(make, training, device="cpu"):
    """The layer in float64, with statistics, scales and biases that are not 0 and 1."""
    layer = make(device).train(training).to(torch.float64)
    for inner in layer.walk():
        for t in [*inner.params.values(), *inner.buffers.values()] if inner.is_leaf() else ():
            if t.dim() == 1:
                t.copy_(torch.rand_like(t) + 0.5)
    return layer


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("shape, make, name, options", SUBJECTS)
def test_layer_agrees_with_autograd_of_its_reference(shape, make, name, options, training, device):
    """And, where there is one, with torch.nn.functional called with the example's options."""
    function = None
    if name in REFERENCES and not callable(options):

        def function(x, params, buffers, training):
            return REFERENCES[name](x, params, buffers, training, **options)

    for x in values(name, shape):
        check_layer(prepared(make, training, device), x.to(device), function)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("shape, make, name, options", SUBJECTS)
def test_gradients_are_the_slopes_of_the_forward(shape, make, name, options, training):
    check_slopes(prepared(make, training), random(shape))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("shape, make, name, options", SUBJECTS)
def test_a_batch_of_no_samples_has_gradients_of_zero(shape, make, name, options, training):
    """BatchNorm2d alone refuses it, in training: there are no statistics of nothing."""
    layer, x = prepared(make, training), random((0, *shape[1:]))
    if name == "BatchNorm2d" and training:
        with pytest.raises(BatchError, match="more than one value a channel"):
            layer.forward(x)
        return
    y, saved = layer.forward(x)
    dx, grads = run_backward(layer, saved, torch.zeros_like(y))
    assert len(y) == 0 and dx.shape == x.shape
    assert {k: g.shape for k, g in grads.items()} == {k: t.shape for k, t in layer.params.items()}
    assert not any(g.any() for g in grads.values())


def test_every_layer_has_an_example():
    assert {param.values[2] for param in SUBJECTS} >= set(REFERENCES)
