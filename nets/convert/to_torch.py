"""Our nets as plain torch.nn modules: what one would write, and let autograd differentiate.

Weights keep their type and follow the numbers that they meet: float32 weights are rounded to
bfloat16 where the pictures are bfloat16, and their gradients and updates are float32 again. That
was measured to be no slower than torch.autocast, or than a module in bfloat16 beside a float32
copy of its weights.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from nets.gradcheck.trace import named_layers
from nets.layers import activations, adaptive_pool, conv, dropout, linear, norm, pool, response_norm, whiten
from nets.layers import containers as net
from nets.layers.base import Layer, sum_dtype


class Linear(nn.Linear):
    """nn.Linear whose weights follow the type of x."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, *_like(x, self.weight, self.bias))


class Conv2d(nn.Conv2d):
    """nn.Conv2d whose weights follow the type of x."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, *_like(x, self.weight, self.bias))


class Scale(nn.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class LocalResponseNorm(nn.LocalResponseNorm):
    """nn.LocalResponseNorm in float32 at least: it has no bfloat16 on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(sum_dtype(x))).to(x.dtype)


class GlobalMaxPool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, x.shape[2:]).flatten(1)


class GlobalAvgPool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class Residual(nn.Module):
    def __init__(self, **children: nn.Module):
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)
        self.around = "shortcut" in children

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + (self.shortcut(x) if self.around else x)


def _like(x: Tensor, *weights):
    return [None if w is None else w.to(x.dtype) for w in weights]


def _conv2d(layer, out: int, channels: int, bias: bool) -> nn.Module:
    win = layer.windows
    groups = getattr(layer, "groups", 1)
    sizes = (win.size, win.stride, win.padding, win.dilation)
    return Conv2d(channels * groups, out, *sizes, groups, bias)


def _max_pool(layer) -> nn.Module:
    win = layer.windows
    return nn.MaxPool2d(win.size, win.stride, win.padding, win.dilation)


def _avg_pool(layer) -> nn.Module:
    return nn.AvgPool2d(layer.windows.size, layer.windows.stride, layer.windows.padding)


def _linear(layer) -> nn.Module:
    outputs, inputs = layer.params["weight"].shape
    return Linear(inputs, outputs, "bias" in layer.params)


def _norm(layer) -> nn.Module:
    channels = len(layer.buffers["running_mean"])
    return nn.BatchNorm2d(channels, layer.eps, layer.momentum, affine="weight" in layer.params)


# exactly these: a class derived from one of them may do something else
TWINS = {
    linear.Linear: _linear,
    linear.Flatten: lambda layer: nn.Flatten(1),
    activations.Scale: lambda layer: Scale(layer.factor),
    activations.Sigmoid: lambda layer: nn.Sigmoid(),
    activations.Tanh: lambda layer: nn.Tanh(),
    activations.ReLU: lambda layer: nn.ReLU(),
    activations.GELU: lambda layer: nn.GELU(layer.approximate),
    activations.SiLU: lambda layer: nn.SiLU(),
    dropout.Dropout: lambda layer: nn.Dropout(layer.p),
    conv.Conv2d: lambda layer: _conv2d(layer, *layer.params["weight"].shape[:2], "bias" in layer.params),
    whiten.Whiten2d: lambda layer: _conv2d(layer, *layer.buffers["weight"].shape[:2], True),
    pool.MaxPool2d: _max_pool,
    pool.AvgPool2d: _avg_pool,
    pool.GlobalMaxPool: lambda layer: GlobalMaxPool(),
    pool.GlobalAvgPool: lambda layer: GlobalAvgPool(),
    adaptive_pool.AdaptiveAvgPool2d: lambda layer: nn.AdaptiveAvgPool2d(layer.output_size),
    norm.BatchNorm2d: _norm,
    response_norm.LocalResponseNorm: lambda layer: LocalResponseNorm(
        layer.size, layer.alpha, layer.beta, layer.k
    ),
}
NETS = {
    net.Sequential: lambda children: nn.Sequential(*children.values()),
    net.Residual: lambda children: Residual(**children),
}


def to_torch(layer: Layer) -> nn.Module:
    """The same layer or net as a torch.nn module, with clones of its weights and statistics.

    A parameter or buffer has the name that it has here. What is shared stays shared, Whiten2d's
    filters are a weight that asks for no gradient, and training or evaluation mode is kept.
    ValueError names every layer that has no twin.
    """
    unknown = [n for n, inner in named_layers(layer) if type(inner) not in TWINS | NETS]
    if unknown:
        raise ValueError(f"no torch.nn twin of {', '.join(unknown)}")
    return _module(layer, {}, {})


def _module(layer: Layer, made: dict, tensors: dict) -> nn.Module:
    """made: id of a layer -> its module; tensors: id of a tensor -> its parameter or buffer."""
    if id(layer) not in made:
        if type(layer) in NETS:
            children = {name: _module(c, made, tensors) for name, c in layer.children.items()}
            module = NETS[type(layer)](children)
        else:
            module = TWINS[type(layer)](layer)
            for name, t in layer.params.items():
                copy = tensors.setdefault(id(t), nn.Parameter(t.detach().clone()))
                setattr(module, name, copy)
            for name, t in layer.buffers.items():
                _set_buffer(module, name, tensors.setdefault(id(t), t.detach().clone()))
        made[id(layer)] = module.train(layer.training)
    return made[id(layer)]


def _set_buffer(module: nn.Module, name: str, t: Tensor):
    """A statistic is a buffer; filters that aren't trained are a parameter without a gradient."""
    frozen = name in dict(module.named_parameters())
    setattr(module, name, nn.Parameter(t, requires_grad=False) if frozen else t)
