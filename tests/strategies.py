"""Cases for the property tests: what each layer may be given, and torch's own version of it.

A `Case` is plain words and numbers, so that one that fails can be read, and built again from
what was printed: its tensors follow from its seed.
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
from nets.losses import CrossEntropyLoss, MSELoss, Performance

DTYPES = (torch.float64, torch.float32, torch.bfloat16)
LAYOUTS = ("contiguous", "channels_last", "gaps", "transposed", "expanded")
# plain: a normal distribution; ties: −1, 0 and 1 alone; edges: finite, but hard; wild: NaN and ±inf too
VALUES = ("plain", "ties", "edges", "wild", "mostly -inf")


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
        t = _numbers(shape, values, self.dtype, KINDS[self.kind].pointwise, generator)
        return lay_out(t, layout)


def _numbers(shape, values, dtype, pointwise, generator):
    if values == "ties":
        return torch.randint(-1, 2, shape, generator=generator).to(dtype)
    t = torch.randn(shape, generator=generator).to(dtype)
    if values == "plain":
        return t
    limits = torch.finfo(dtype)
    # where numbers are added up, whether a sum of huge ones overflows hangs on their order
    huge = limits.max / 64 if pointwise else limits.max**0.25
    some = [0.0, -0.0, 1.0, -1.0, 30.0, -30.0, limits.tiny, limits.smallest_normal * limits.eps, huge, -huge]
    if values == "wild":
        some += [float("nan"), float("inf"), -float("inf")]
    elif values == "mostly -inf":
        some = [-float("inf")] * 9 + [float("nan")]
    special = torch.tensor(some, dtype=torch.float64).to(dtype)
    special = special[torch.randint(len(some), shape, generator=generator)]
    share = 0.8 if values == "mostly -inf" else 0.3
    return torch.where(torch.rand(shape, generator=generator) < share, special, t)


def lay_out(t, layout: str):
    """The same values otherwise in memory; "expanded" repeats the first sample's first values."""
    if layout == "channels_last" and t.dim() == 4:
        return t.contiguous(memory_format=torch.channels_last)
    if layout == "gaps" and t.dim():
        wide = t.new_empty(*t.shape[:-1], 2 * t.shape[-1])
        return wide[..., ::2].copy_(t)
    if layout == "transposed" and t.dim() > 1:
        return t.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "expanded" and t.dim():
        return t[:1, ..., :1].expand(t.shape) if t.dim() > 1 else t[:1].expand(t.shape)
    return t


# What a layer may be given


def whole(least, most):
    return st.integers(least, most)


def shaped(shape, **options):
    """A strategy for (shape, options), from one for each number."""
    return st.tuples(st.tuples(*shape), st.fixed_dictionaries(options))


def any_shape(**options):
    """Of nothing, of one number, of up to four dimensions."""
    return st.tuples(st.lists(whole(0, 4), max_size=4).map(tuple), st.fixed_dictionaries(options))


@st.composite
def windows(draw, channels, names, pool=False, **options):
    """(shape, options) of a sliding window that fits into its picture at least once.

    channels  a strategy for how many go in, and for the options that have to do with them
    names     of the options of its geometry that the layer has
    pool      a pool's padding is at most half a window
    """
    sizes, axes = [], []
    for _ in range(2):
        k, s = draw(whole(1, 3)), draw(whole(1, 3))
        d = draw(whole(1, 2)) if "dilation" in names else 1
        # no window in the padding alone, nor with the whole picture between two of its places: MaxPool2d
        # refuses that, and conv2d can die of it in channels_last (PyTorch's issue 195394)
        p = draw(whole(0, k // 2 if pool else k - 1)) if "padding" in names else 0
        least = max(1, d * (k - 1) + 1 - 2 * p, d if p else 1)
        sizes.append(draw(whole(least, least + 4)))
        axes.append({"kernel_size": k, "stride": s, "padding": p, "dilation": d})
    inputs, more = draw(channels)
    both = {name: tuple(axis[name] for axis in axes) for name in names}
    both = {name: v[0] if v[0] == v[1] else v for name, v in both.items()}  # an int where it will do
    return (draw(whole(0, 3)), inputs, *sizes), both | more | draw(st.fixed_dictionaries(options))


def blind(shape, kernel_size, stride, padding, dilation, **_):
    """Is there a weight that sees nothing but padding?"""
    for axis, n in enumerate(shape[2:]):
        k, s, p, d = (v if isinstance(v, int) else v[axis] for v in (kernel_size, stride, padding, dilation))
        places = range(-p, n + p - d * (k - 1), s)  # where windows start
        if not all(any(0 <= start + d * i < n for start in places) for i in range(k)):
            return True
    return False


@st.composite
def conv_channels(draw):
    groups, bias = draw(whole(1, 3)), draw(st.booleans())
    inputs, outputs = groups * draw(whole(1, 2)), groups * draw(whole(1, 2))
    return inputs, dict(in_channels=inputs, out_channels=outputs, groups=groups, bias=bias)


GEOMETRY = ("kernel_size", "stride", "padding")
SAME = dict(kernel_size=3, stride=1, padding=1)  # keeps a picture's size: what nets are made of
few = whole(1, 3).map(lambda channels: (channels, {}))


def conv(backend):
    return windows(conv_channels(), (*GEOMETRY, "dilation"), backend=st.just(backend))


def max_pool(backend):
    return windows(few, (*GEOMETRY, "dilation"), pool=True, backend=st.just(backend))


@st.composite
def norm(draw, backend):
    shape = draw(st.tuples(whole(0, 3), whole(1, 3), whole(1, 4), whole(1, 4)))
    eps, momentum = draw(st.sampled_from([1e-5, 1e-3, 0.5])), draw(st.sampled_from([0.0, 0.1, 1.0]))
    affine = draw(st.booleans())
    return shape, dict(num_features=shape[1], eps=eps, momentum=momentum, affine=affine, backend=backend)


@st.composite
def response_norm(draw):
    """(N, C, …) with one to three axes of places."""
    places = draw(st.lists(whole(0, 3), min_size=1, max_size=3))
    options = dict(size=draw(whole(1, 6)), alpha=draw(st.sampled_from([0.0, 1e-4, 0.5])))
    options |= dict(beta=draw(st.sampled_from([0.75, 1.0, 0.5])), k=draw(st.sampled_from([1.0, 2.0])))
    return (draw(whole(0, 3)), draw(whole(1, 5)), *places), options


@st.composite
def linear(draw):
    inputs, before = draw(whole(1, 6)), draw(st.lists(whole(0, 3), max_size=3))
    return (*before, inputs), dict(
        in_features=inputs, out_features=draw(whole(1, 5)), bias=draw(st.booleans())
    )


def parts(channels):
    """Lists of layers that keep a picture's shape, each as (name, options)."""
    conv = dict(in_channels=channels, out_channels=channels, groups=1, bias=True, dilation=1, **SAME)
    norm = dict(num_features=channels, eps=1e-3, momentum=0.1, affine=True)
    some = [("Tanh", {}), ("ReLU", {}), ("SiLU", {}), ("Sigmoid", {}), ("GELU", {}), ("AvgPool2d", SAME)]
    some += [("Scale", {"factor": -0.5}), ("Dropout", {"p": 0.3})]
    some += [("LocalResponseNorm", dict(size=3, alpha=0.5, beta=0.75, k=1.0))]
    for backend in ("reference", "torch"):
        some.append((f"Conv2d {backend}", conv | {"backend": backend}))
        some.append((f"BatchNorm2d {backend}", norm | {"backend": backend}))
        some.append((f"MaxPool2d {backend}", SAME | {"backend": backend, "dilation": 1}))
    return st.lists(st.sampled_from(some), min_size=1, max_size=4)


@st.composite
def residual(draw):
    shape = draw(st.tuples(whole(0, 3), whole(1, 3), whole(1, 4), whole(1, 4)))
    body = draw(parts(shape[1]))
    return shape, dict(body=body, shortcut=draw(st.none() | parts(shape[1])))


@st.composite
def sequential(draw):
    """Layers that keep the shape, perhaps a block, and a classifier or the first layer once more."""
    shape, block = draw(residual())
    layers = draw(parts(shape[1])) + draw(st.sampled_from([[], [("Residual", block)]]))
    end = draw(st.sampled_from(["", "again", "GlobalAvgPool", "GlobalMaxPool", "Flatten"]))
    if end not in ("", "again"):
        inputs = shape[1] * (shape[2] * shape[3] if end == "Flatten" else 1)
        layers = [*layers, (end, {}), ("Linear", dict(in_features=inputs, out_features=2, bias=True))]
    return shape, dict(layers=layers, again=end == "again")


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


pictures = (whole(0, 3), whole(1, 3), whole(1, 5), whole(1, 5))

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
        GlobalAvgPool, shaped(pictures), lambda x, p, b, training: F.adaptive_avg_pool2d(x, 1).flatten(1)
    ),
    "GlobalMaxPool": Kind(
        GlobalMaxPool, shaped(pictures), lambda x, p, b, training: F.adaptive_max_pool2d(x, 1).flatten(1)
    ),
    "AvgPool2d": Kind(
        AvgPool2d,
        windows(few, GEOMETRY, pool=True),
        avg_pool_reference,
    ),
    "AdaptiveAvgPool2d": Kind(
        AdaptiveAvgPool2d,
        shaped(pictures, output_size=whole(1, 6) | st.tuples(whole(1, 6), whole(1, 6))),
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


# Losses


@dataclass(frozen=True)
class Loss:
    make: Callable  # (**options) -> loss
    options: st.SearchStrategy
    shapes: st.SearchStrategy  # of the output z
    targets: tuple[str, ...]
    reference: Callable  # (z, target, **options) -> the number


@dataclass(frozen=True)
class LossCase:
    kind: str
    options: dict[str, Any]
    shape: tuple[int, ...]
    target: str
    dtype: torch.dtype
    layout: str
    values: str
    seed: int

    def loss(self):
        return LOSSES[self.kind].make(**self.options)

    def tensors(self):
        """(z, target)"""
        generator = torch.Generator().manual_seed(self.seed)
        z = lay_out(_numbers(self.shape, self.values, self.dtype, False, generator), self.layout)
        if self.target == "classes":
            return z, torch.randint(self.shape[-1], self.shape[:-1], generator=generator)
        return z, _numbers(self.shape, "plain", self.dtype, False, generator)


def squares(z, target, reduction="sum", factor=1.0):
    if target.shape != z.shape:
        target = F.one_hot(target, z.shape[-1])
    return factor * F.mse_loss(z, target.to(z.dtype), reduction=reduction)


def cross_entropy(z, target, label_smoothing, reduction):
    if label_smoothing < 1:
        return F.cross_entropy(z, target, label_smoothing=label_smoothing, reduction=reduction)
    means = -F.log_softmax(z, 1).mean(1)  # where torch multiplies by 0 what may be infinite
    return means.mean() if reduction == "mean" else means.sum()


reductions = st.sampled_from(["mean", "sum"])
rows = st.tuples(whole(0, 4), whole(1, 5))

LOSSES = {
    "CrossEntropyLoss": Loss(
        CrossEntropyLoss,
        st.fixed_dictionaries({"label_smoothing": st.sampled_from([0.0, 0.1, 1.0]), "reduction": reductions}),
        rows,
        ("classes",),
        cross_entropy,
    ),
    "Performance": Loss(
        Performance, st.just({}), rows, ("classes", "outputs"), lambda z, d: squares(z, d, factor=-0.5)
    ),
    "MSELoss": Loss(
        MSELoss,
        st.fixed_dictionaries({"reduction": reductions}),
        rows | st.tuples(whole(0, 3), whole(1, 3), whole(1, 4)),
        ("classes", "outputs"),
        squares,
    ),
}


@st.composite
def loss_cases(draw, name: str):
    kind = LOSSES[name]
    return LossCase(
        *(name, draw(kind.options), draw(kind.shapes), draw(st.sampled_from(kind.targets))),
        dtype=draw(st.sampled_from(DTYPES)),
        layout=draw(st.sampled_from(LAYOUTS)),
        values=draw(st.sampled_from(VALUES)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )
