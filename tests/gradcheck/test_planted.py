"""Thirty bugs that people write, planted one at a time: the checker must name the layer and the tensor."""

from types import MethodType

import pytest
import torch
from torch.nn.functional import conv_transpose2d, log_softmax, one_hot, pad

from nets.gradcheck import check
from nets.layers.activations import GELU, ReLU, Scale, Sigmoid, SiLU, Tanh
from nets.layers.adaptive_pool import AdaptiveAvgPool2d
from nets.layers.containers import Net, Residual, Sequential
from nets.layers.conv import Conv2d
from nets.layers.dropout import Dropout
from nets.layers.linear import Flatten, Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import AvgPool2d, GlobalAvgPool, GlobalMaxPool, MaxPool2d
from nets.layers.response_norm import LocalResponseNorm, _window_sum
from nets.losses import CrossEntropyLoss, Performance

BUGS = []  # (what is wrong, a class, its wrong backward, the layer, the input's shape, the wrong tensor)


def bug(what, make, shape, tensor, method="backward"):
    """Register a wrong method of make()'s class."""

    def register(wrong):
        BUGS.append(pytest.param(make, method, wrong, shape, tensor, id=what.replace(" ", "-")))
        return wrong

    return register


ROWS, PICTURES = (5, 6), (3, 4, 7, 8)


@bug("wrong sign", Sigmoid, ROWS, "input")
def _(self, y, dy):
    return dy * (y * (1 + y)), {}


@bug("input for output", Tanh, ROWS, "input", "forward")
def _(self, x):
    return torch.tanh(x), x


@bug("relu lets the other half through", ReLU, ROWS, "input")
def _(self, saved, dy):
    return dy * saved, {}


@bug("gelu without the product rule", GELU, ROWS, "input")
def _(self, x, dy):
    return dy * torch.special.ndtr(x), {}


@bug("gelu of the tanh kind", GELU, ROWS, "output", "forward")
def _(self, x):
    return torch.nn.functional.gelu(x, approximate="tanh"), x


@bug("silu of the wrong argument", SiLU, ROWS, "input")
def _(self, x, dy):
    beta = torch.sigmoid(x)
    return dy * (beta * (1 + beta * (1 - beta))), {}


@bug("missing transpose", lambda: Linear(6, 6), ROWS, "weight")
def _(self, x, dy):
    return dy @ self.params["weight"], {"weight": x.T @ dy, "bias": dy.sum(0)}


@bug("weight transposed", lambda: Linear(6, 6), ROWS, "input")
def _(self, x, dy):
    return dy @ self.params["weight"].T, {"weight": dy.T @ x, "bias": dy.sum(0)}


@bug("mean for sum", lambda: Linear(6, 4), ROWS, "bias")
def _(self, x, dy):
    return dy @ self.params["weight"], {"weight": dy.T @ x, "bias": dy.mean(0)}


@bug("forgotten bias", lambda: Linear(6, 4), ROWS, "bias")
def _(self, x, dy):
    return dy @ self.params["weight"], {"weight": dy.T @ x}


@bug("lost broadcast", lambda: Linear(6, 4), ROWS, "bias")
def _(self, x, dy):
    return dy @ self.params["weight"], {"weight": dy.T @ x, "bias": dy[0].clone()}


@bug("flattened the wrong way", Flatten, PICTURES, "input")
def _(self, shape, dy):
    n, c, h, w = shape
    return dy.reshape(n, h, w, c).permute(0, 3, 1, 2), {}


@bug("dropout without its scale", lambda: Dropout(0.5), ROWS, "input")
def _(self, mask, dy):
    return (dy if mask is None else dy * mask), {}


@bug("a new mask in backward", lambda: Dropout(0.5), (50, 6), "input")
def _(self, mask, dy):
    return (dy if mask is None else dy * (torch.rand_like(dy) >= 0.5) * self.scale), {}


def conv(**options):
    return lambda: Conv2d(4, 6, 3, **({"padding": 1} | options))


RIGHT = Conv2d.backward


def with_input(change):
    """Conv2d's backward with its dx made by conv_transpose2d with other options."""

    def wrong(self, x, dy):
        win = self.windows
        options = dict(stride=win.stride, padding=win.padding, dilation=win.dilation)
        options |= dict(output_padding=win.left_over(x.shape), groups=self.groups)
        weight, options = change(self.params["weight"], options)
        dx = conv_transpose2d(dy, weight, **options)
        h, w = (min(a, b) for a, b in zip(dx.shape[2:], x.shape[2:]))
        full = torch.zeros_like(x)
        full[..., :h, :w] = dx[..., :h, :w]
        return full, RIGHT(self, x, dy)[1]

    return wrong


bug("missing output padding", conv(stride=2), (3, 4, 8, 8), "input")(
    with_input(lambda w, o: (w, o | {"output_padding": 0, "padding": 0}))
)
bug("swapped stride and dilation", conv(stride=2, dilation=1), (3, 4, 8, 9), "input")(
    with_input(lambda w, o: (w, o | {"stride": o["dilation"], "dilation": o["stride"], "output_padding": 0}))
)
bug("kernel not turned", conv(), PICTURES, "input")(with_input(lambda w, o: (w.flip(2, 3), o)))


@bug("padding forgotten in the weight's gradient", conv(), PICTURES, "weight")
def _(self, x, dy):
    dx, grads = RIGHT(self, x, dy)
    inner = RIGHT(self, pad(x[:, :, 1:-1, 1:-1], (1, 1, 1, 1)), dy)[1]
    return dx, grads | {"weight": inner["weight"]}


@bug("rows and columns of the kernel swapped", conv(), PICTURES, "weight")
def _(self, x, dy):
    dx, grads = RIGHT(self, x, dy)
    return dx, grads | {"weight": grads["weight"].transpose(2, 3)}


@bug("groups mixed up", conv(groups=2), PICTURES, "weight")
def _(self, x, dy):
    dx, grads = RIGHT(self, x, dy)
    return dx, grads | {"weight": grads["weight"].roll(3, 0)}


@bug("the last of the ties", lambda: MaxPool2d(2), (3, 4, 8, 8), "input")
def _(self, saved, dy):
    index, shape = saved
    dx = torch.zeros(shape, dtype=dy.dtype).flatten(2)
    return dx.scatter_(2, (index.long() + 1).flatten(2), dy.flatten(2)).reshape(shape), {}


@bug("overlap counted once", lambda: MaxPool2d(3, 1), PICTURES, "input")
def _(self, saved, dy):
    index, shape = saved
    dx = torch.zeros(shape, dtype=dy.dtype).flatten(2)
    return dx.scatter_(2, index.long().flatten(2), dy.flatten(2)).reshape(shape), {}


@bug("overlap averaged over the wrong count", lambda: AvgPool2d(3, 1, 1), PICTURES, "input")
def _(self, shape, dy):
    return self.windows.scatter_add(dy, shape, lambda i, j: dy / 3), {}


@bug("response norm's window not turned round", lambda: LocalResponseNorm(4, 0.5), PICTURES, "input")
def _(self, x, dy):
    d = self._denominator(x)
    through = _window_sum(dy * x * d ** (-self.beta - 1), self.below, self.above)
    return dy * d**-self.beta - 2 * self.alpha * self.beta / self.size * x * through, {}


@bug("response norm without its neighbors", lambda: LocalResponseNorm(3, 0.5), PICTURES, "input")
def _(self, x, dy):
    return dy * self._denominator(x) ** -self.beta, {}


@bug("windows that share no place", lambda: AdaptiveAvgPool2d((3, 8)), PICTURES, "input")
def _(self, saved, dy):
    (_, _, h, w), _ = saved
    return torch.nn.functional.interpolate(dy, (h, w)) * dy.shape[2] * dy.shape[3] / (h * w), {}


@bug("global mean undivided", GlobalAvgPool, PICTURES, "input")
def _(self, shape, dy):
    return dy[:, :, None, None].expand(shape).clone(), {}


@bug("every place wins", GlobalMaxPool, PICTURES, "input")
def _(self, saved, dy):
    return dy[:, :, None, None].expand(saved[1]).clone(), {}


def norm():
    return BatchNorm2d(4)


@bug("mean and variance held constant", norm, PICTURES, "input")
def _(self, saved, dy):
    x, mean, rstd, _ = saved
    xhat = (x - mean[:, None, None]) * rstd[:, None, None]
    scale = (self.params["weight"] * rstd)[:, None, None]
    return dy * scale, {"weight": (dy * xhat).sum((0, 2, 3)), "bias": dy.sum((0, 2, 3))}


@bug("gamma's gradient of x for x hat", norm, PICTURES, "weight")
def _(self, saved, dy):
    dx, grads = NORM(self, saved, dy)
    return dx, grads | {"weight": (dy * saved[0]).sum((0, 2, 3))}


@bug("unbiased variance to normalize", norm, PICTURES, "output", "forward")
def _(self, x):
    y, saved = NORM_FORWARD(self, x)
    m = x.numel() // x.shape[1]
    return y * ((m - 1) / m) ** 0.5, saved


@bug("biased variance stored", norm, PICTURES, "running_var", "forward")
def _(self, x):
    old, m = self.buffers["running_var"].clone(), x.numel() // x.shape[1]
    y, saved = NORM_FORWARD(self, x)
    if self.training:
        new = (self.buffers["running_var"] - old * (1 - self.momentum)) * ((m - 1) / m)
        self.buffers["running_var"].copy_(old * (1 - self.momentum) + new)
    return y, saved


@bug("stale running statistics", norm, PICTURES, "running_mean", "forward")
def _(self, x):
    old = self.buffers["running_mean"].clone()
    y, saved = NORM_FORWARD(self, x)
    self.buffers["running_mean"].copy_(old)
    return y, saved


NORM, NORM_FORWARD = BatchNorm2d.backward, BatchNorm2d.forward


@bug("forgotten way around", lambda: Residual(Tanh()), ROWS, "input")
def _(self, saved, dy, keep=False):
    return self.children["body"].backward(saved[0], dy)


@pytest.mark.parametrize("make, method, wrong, shape, tensor", BUGS)
def test_a_planted_bug_is_named(make, method, wrong, shape, tensor):
    """Between two layers that are right, in a net that is right without it."""
    pictures = len(shape) == 4
    layer = make()
    ties = isinstance(layer, MaxPool2d) and layer.windows.disjoint()
    x = torch.randint(0, 2, shape).double() if ties else torch.randn(shape, dtype=torch.float64) + 0.5
    y, _ = make().forward(x.float())
    before = Scale(1.0) if ties else Conv2d(4, 4, 1) if pictures else Linear(6, 6)
    after = Conv2d(y.shape[1], 2, 1) if y.dim() == 4 else Linear(y.shape[1], 3)
    net = Sequential(before, layer, after).to(torch.float64)
    assert check(net, x).ok
    setattr(layer, method, MethodType(wrong, layer))
    report = check(net, x)
    assert not report.ok
    assert report.first_bad == f"1 ({type(layer).__name__}), {tensor}"


def test_a_gradient_overwritten_on_reuse_is_named(monkeypatch):
    def overwrite(self, grads, child, new):
        grads.update({self._names[f"{child}.{k}"]: g for k, g in new.items()})

    shared = Linear(6, 6)
    net = Sequential(shared, Tanh(), shared).to(torch.float64)
    monkeypatch.setattr(Net, "_collect", overwrite)
    assert check(net, torch.randn(ROWS, dtype=torch.float64)).first_bad == "Sequential, 0.weight"


def without_smoothing(self, z, target):
    right = CrossEntropyLoss(self.label_smoothing)
    p = log_softmax(z, 1).exp()
    return right(z, target)[0], (p - one_hot(target, z.shape[1])) / len(z)


def undivided(self, z, target):
    loss, dz = CrossEntropyLoss(self.label_smoothing, "sum")(z, target)
    return loss / len(z), dz


def downhill(self, z, target):
    return -0.5 * ((target - z) ** 2).sum(), z - target


@pytest.mark.parametrize(
    "loss, wrong",
    [(CrossEntropyLoss(0.2), without_smoothing), (CrossEntropyLoss(), undivided), (Performance(), downhill)],
)
def test_a_wrong_loss_is_named(loss, wrong, monkeypatch):
    net, x = Sequential(Linear(6, 3)).to(torch.float64), torch.randn(ROWS, dtype=torch.float64)
    target = torch.randint(3, (5,)) if isinstance(loss, CrossEntropyLoss) else torch.rand(5, 3).double()
    broken = type(type(loss).__name__, (type(loss),), {"__call__": wrong})
    broken = object.__new__(broken)
    broken.__dict__ = dict(vars(loss))
    assert check(net, x, loss=loss, target=target).ok
    assert check(net, x, loss=broken, target=target).first_bad == f"loss ({type(loss).__name__}), dy"


def test_there_are_thirty():
    assert len(BUGS) + 4 >= 30
