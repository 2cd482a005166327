"""Strategies for (shape of x, options) of every layer."""

from hypothesis import strategies as st


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
