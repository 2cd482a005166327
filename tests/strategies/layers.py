"""Cases for the property tests of layers, and the same layers in torch.

A `Case` holds words and numbers only. One that fails can be read, and made again from what is printed: its
tensors follow from its seed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch.nn import functional as F

from nets.kernels import lower
from nets.layers import activations
from nets.layers.adaptive_pool import AdaptiveAvgPool2d
from nets.layers.containers import Residual, Sequential
from nets.layers.conv import Conv2d
from nets.layers.dropout import Dropout
from nets.layers.linear import Flatten, Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import AvgPool2d, GlobalAvgPool, GlobalMaxPool, MaxPool2d
from nets.layers.registry import LAYERS
from nets.layers.response_norm import LocalResponseNorm
from nets.layers.whiten import Whiten2d
from tests.strategies.numbers import DTYPES, LAYOUTS, VALUES, lay_out, numbers
from tests.strategies.sizes import (
    GEOMETRY,
    SAME,
    any_shape,
    blind,
    conv,
    few,
    linear,
    max_pool,
    norm,
    residual,
    response_norm,
    sequential,
    shaped,
    whole,
    windows,
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A layer, as the tests see it."""

    make: Callable  # (**options) -> layer
    sizes: st.SearchStrategy  # of (shape of x, options)
    reference: Callable  # (x, params, buffers, training, **options) -> y, in torch.nn.functional
    pointwise: bool = False  # one number in, one number out


@dataclass(frozen=True)
class Case:
    """One layer and one input."""

    kind: str
    shape: tuple[int, ...]
    options: dict[str, Any]
    dtype: torch.dtype
    layout: str  # of x
    dy_layout: str
    values: str  # in x
    dy_values: str
    training: bool
    seed: int

    def layer(self):
        """The layer or form, with random weights and statistics: in float32 at least, as in training."""
        generator = torch.Generator().manual_seed(self.seed)
        layer = KINDS[self.kind].make(**self.options).train(self.training)
        for name, t in (layer.params | layer.buffers).items():
            if name.endswith("running_var"):
                t.uniform_(0.1, 2, generator=generator)
            else:
                t.copy_(torch.randn(t.shape, generator=generator))
        return layer.to(torch.promote_types(self.dtype, torch.float32))

    def numbers(self, shape, values: str, layout: str, number: int):
        """A tensor of some kind of values; `number` tells one draw from another."""
        generator = torch.Generator().manual_seed(self.seed + number)
        t = numbers(shape, values, self.dtype, KINDS[self.kind].pointwise, generator)
        return lay_out(t, layout)


# The nets, and their references


def on_backend(cls):
    """What makes a layer, or a backend's form of it."""

    def make(backend="reference", **options):
        return lower(cls(**options), backend, "cpu", torch.float64)

    return make


def make_row(layers, again=False):
    made = [KINDS[name].make(**options) for name, options in layers]
    return Sequential(*made, *made[:1] if again else ())


def make_around(body, shortcut):
    return Residual(make_row(body), shortcut and make_row(shortcut))


def under(tensors, prefix):
    return {k.removeprefix(f"{prefix}."): t for k, t in tensors.items() if k.startswith(f"{prefix}.")}


def row(x, p, b, training, layers, again=False):
    for i, (name, options) in enumerate(layers):
        x = KINDS[name].reference(x, under(p, i), under(b, i), training, **options)
    return row(x, p, b, training, layers[:1]) if again else x


def around(x, p, b, training, body, shortcut):
    y = row(x, under(p, "body"), under(b, "body"), training, body)
    if not shortcut:
        return y + x
    return y + row(x, under(p, "shortcut"), under(b, "shortcut"), training, shortcut)


# References of layers with weights, which take part in x's type


def weights(x, p):
    return [p[k].to(x.dtype) if k in p else None for k in ("weight", "bias")]


def conv_reference(x, p, b, training, stride=1, padding=0, dilation=1, groups=1, **_):
    return F.conv2d(x, *weights(x, p), stride, padding, dilation, groups)


def max_pool_reference(x, p, b, training, kernel_size, stride=None, padding=0, dilation=1, **_):
    return F.max_pool2d(x, kernel_size, stride, padding, dilation)


def avg_pool_reference(x, p, b, training, kernel_size, stride=None, padding=0):
    # contiguous: on CUDA the library's backward of padded windows in channels_last is wrong (torch 2.11)
    return F.avg_pool2d(x.contiguous() if x.is_cuda else x, kernel_size, stride, padding)


def norm_reference(x, p, b, training, momentum=0.1, eps=1e-5, **_):
    mean, var = b["running_mean"], b["running_var"]
    return F.batch_norm(x, mean, var, p.get("weight"), p.get("bias"), training, momentum, eps)


def response_norm_reference(x, p, b, training, size, alpha=1e-4, beta=0.75, k=1.0):
    wide = x.to(torch.promote_types(x.dtype, torch.float32))  # torch's has no bfloat16 on a CPU
    if alpha == 0:  # the sum is left out, where torch has 0·∞
        return (wide * torch.tensor(k, dtype=wide.dtype) ** -beta).to(x.dtype)
    return F.local_response_norm(wide.contiguous(), size, alpha, beta, k).to(x.dtype)


def dropout_reference(x, p_, b, training, p=0.5):
    if not training:
        return x * 1
    keep = torch.rand_like(x, dtype=torch.float32) >= p  # the draw that the layer makes
    return x * keep * (1 / (1 - p) if p < 1 else 0)


BACKEND = st.sampled_from(["reference", "torch"])


def activation(make, function, **options):
    def reference(x, p, b, training, backend=None, **o):
        return function(x, **o)

    return Kind(on_backend(make), any_shape(**options), reference, pointwise=True)


images = (whole(0, 3), whole(1, 3), whole(1, 5), whole(1, 5))

KINDS = {
    "Scale": activation(
        activations.Scale, lambda x, factor: factor * x, factor=st.sampled_from([0.3, -2.0, 0.0])
    ),
    "Sigmoid": activation(activations.Sigmoid, F.sigmoid),
    "Tanh": activation(activations.Tanh, F.tanh),
    "ReLU": activation(activations.ReLU, F.relu),
    "GELU": activation(
        activations.GELU, F.gelu, approximate=st.sampled_from(["none", "tanh"]), backend=BACKEND
    ),
    "SiLU": activation(activations.SiLU, F.silu, backend=BACKEND),
    **{
        name: activation(LAYERS[name], function, **options)
        for name, function, options in (
            ("ReLU6", F.relu6, {}),
            ("LeakyReLU", F.leaky_relu, dict(negative_slope=st.sampled_from([0.01, 0.3]))),
            ("Hardsigmoid", lambda x: F.relu6(x + 3) / 6, {}),
            ("Hardswish", F.hardswish, {}),
            ("ELU", F.elu, dict(alpha=st.sampled_from([1.0, 0.5]))),
            ("Softplus", F.softplus, dict(beta=st.sampled_from([1.0, 2.0]))),
            ("Mish", F.mish, {}),
        )
    },
    "Linear": Kind(Linear, linear(), lambda x, p, b, training, **_: F.linear(x, *weights(x, p))),
    "Flatten": Kind(
        Flatten,
        shaped([whole(0, 4)] * 4) | shaped([whole(0, 4)] * 2),
        lambda x, p, b, training: torch.flatten(x, 1),
    ),
    "Dropout": Kind(
        Dropout, any_shape(p=st.sampled_from([0.0, 0.3, 0.9, 1.0])), dropout_reference, pointwise=True
    ),
    "Conv2d reference": Kind(on_backend(Conv2d), conv("reference"), conv_reference),
    "Conv2d torch": Kind(on_backend(Conv2d), conv("torch"), conv_reference),
    "Whiten2d": Kind(
        Whiten2d,
        windows(whole(1, 2).map(lambda channels: (channels, {"in_channels": channels})), ("kernel_size",)),
        lambda x, p, b, training, **_: F.conv2d(x, b["weight"].to(x.dtype), p["bias"].to(x.dtype)),
    ),
    "GlobalAvgPool": Kind(
        GlobalAvgPool, shaped(images), lambda x, p, b, training: F.adaptive_avg_pool2d(x, 1).flatten(1)
    ),
    "GlobalMaxPool": Kind(
        GlobalMaxPool, shaped(images), lambda x, p, b, training: F.adaptive_max_pool2d(x, 1).flatten(1)
    ),
    "AvgPool2d": Kind(
        AvgPool2d,
        windows(few, GEOMETRY, pool=True),
        avg_pool_reference,
    ),
    "AdaptiveAvgPool2d": Kind(
        AdaptiveAvgPool2d,
        shaped(images, output_size=whole(1, 6) | st.tuples(whole(1, 6), whole(1, 6))),
        lambda x, p, b, training, output_size: F.adaptive_avg_pool2d(x, output_size),
    ),
    "MaxPool2d reference": Kind(on_backend(MaxPool2d), max_pool("reference"), max_pool_reference),
    "MaxPool2d torch": Kind(on_backend(MaxPool2d), max_pool("torch"), max_pool_reference),
    "BatchNorm2d reference": Kind(on_backend(BatchNorm2d), norm("reference"), norm_reference),
    "BatchNorm2d torch": Kind(on_backend(BatchNorm2d), norm("torch"), norm_reference),
    "LocalResponseNorm": Kind(
        LocalResponseNorm,
        response_norm(),
        response_norm_reference,
    ),
    "Sequential": Kind(make_row, sequential(), row),
    "Residual": Kind(make_around, residual(), around),
}

# A layer's name -> its reference: for layers that aren't nets the options are those of its class.
REFERENCES = {
    name.split()[0]: kind.reference for name, kind in KINDS.items() if name not in ("Sequential", "Residual")
}


@st.composite
def cases(draw, name: str):
    shape, options = draw(KINDS[name].sizes)
    training = draw(st.booleans())
    if "BatchNorm" in str((name, options)) and shape[0] * shape[2] * shape[3] < 2:
        training = False  # one value a channel has no variance; tests/layers/test_norm.py has the error
    dtypes = DTYPES
    if "Conv2d" in str((name, options)) and blind(shape, **({"dilation": 1} | SAME | options)):
        dtypes = DTYPES[:2]  # in bfloat16 the library's gradient of such a weight can be anything
    return Case(
        *(name, shape, options),
        dtype=draw(st.sampled_from(dtypes)),
        layout=draw(st.sampled_from(LAYOUTS)),
        dy_layout=draw(st.sampled_from(LAYOUTS)),
        values=draw(st.sampled_from(VALUES)),
        dy_values=draw(st.sampled_from(VALUES[:4])),
        training=training,
        seed=draw(st.integers(0, 2**32 - 1)),
    )
