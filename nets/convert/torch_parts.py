"""Which parts of torch.nn have a layer here: modules, and calls that stand in a forward.

Each entry makes the layer or says, by Unsupported, which option no layer has.
"""

import operator

import torch
from torch import fx, nn
from torch.nn import functional as F

from nets.convert import to_torch as torch_nn
from nets.layers import activations, adaptive_pool, conv, dropout, linear, norm, pool, response_norm
from nets.layers.base import Layer


class Unsupported(ValueError):
    """What a part of a module asks for and no layer does."""


def _only(module: nn.Module, **options):
    """Unsupported where an option isn't as the layer has it."""
    for name, value in options.items():
        found = getattr(module, name)
        if found != value:
            raise Unsupported(f"{type(module).__name__} with {name}={found!r}")


def _conv2d(m: nn.Conv2d) -> Layer:
    _only(m, padding_mode="zeros")
    padding = m.padding
    if isinstance(padding, str):  # "same" may want one more on one side
        left, right, top, bottom = m._reversed_padding_repeated_twice
        if (left, top) != (right, bottom):
            raise Unsupported(f"Conv2d with padding={padding!r} that isn't the same on both sides")
        padding = (top, left)
    sizes = (m.kernel_size, m.stride, padding, m.dilation, m.groups)
    return conv.Conv2d(m.in_channels, m.out_channels, *sizes, m.bias is not None)


def _norm(m: nn.BatchNorm2d) -> Layer:
    _only(m, track_running_stats=True)
    if m.momentum is None:
        raise Unsupported("BatchNorm2d with momentum=None")
    return norm.BatchNorm2d(m.num_features, m.eps, m.momentum, m.affine)


def _max_pool(m: nn.MaxPool2d) -> Layer:
    _only(m, ceil_mode=False, return_indices=False)
    return pool.MaxPool2d(m.kernel_size, m.stride, m.padding, m.dilation)


def _avg_pool(m: nn.AvgPool2d) -> Layer:
    _only(m, ceil_mode=False, divisor_override=None)
    if m.padding not in (0, (0, 0)):
        _only(m, count_include_pad=True)
    return pool.AvgPool2d(m.kernel_size, m.stride, m.padding)


def _adaptive(m: nn.AdaptiveAvgPool2d) -> Layer:
    try:
        return adaptive_pool.AdaptiveAvgPool2d(m.output_size)
    except ValueError:  # None, for as many as there are
        raise Unsupported(f"AdaptiveAvgPool2d with output_size={m.output_size}") from None


def _flatten(m: nn.Flatten) -> Layer:
    _only(m, start_dim=1, end_dim=-1)
    return linear.Flatten()


def _linear(m: nn.Linear) -> Layer:
    return linear.Linear(m.in_features, m.out_features, m.bias is not None)


def _response_norm(m) -> Layer:
    return response_norm.LocalResponseNorm(m.size, m.alpha, m.beta, m.k)


# exactly these: a class derived from one of them may do something else
MODULES = {
    **dict.fromkeys((nn.LocalResponseNorm, torch_nn.LocalResponseNorm), _response_norm),
    **dict.fromkeys((nn.Linear, torch_nn.Linear), _linear),
    **dict.fromkeys((nn.Conv2d, torch_nn.Conv2d), _conv2d),
    nn.BatchNorm2d: _norm,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: _adaptive,
    nn.Flatten: _flatten,
    nn.Identity: lambda m: None,
    nn.Dropout: lambda m: dropout.Dropout(m.p),
    nn.ReLU: lambda m: activations.ReLU(),
    nn.Sigmoid: lambda m: activations.Sigmoid(),
    nn.Tanh: lambda m: activations.Tanh(),
    nn.GELU: lambda m: activations.GELU(m.approximate),
    nn.SiLU: lambda m: activations.SiLU(),
    torch_nn.Scale: lambda m: activations.Scale(m.factor),
    torch_nn.GlobalAvgPool: lambda m: pool.GlobalAvgPool(),
    torch_nn.GlobalMaxPool: lambda m: pool.GlobalMaxPool(),
}


# A call in a forward, as the module that does the same.


def _max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    return nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)


def _mean(x, dim=None, keepdim=False):
    axes = sorted(dim) if isinstance(dim, (tuple, list)) else [dim]
    if keepdim or axes not in ([2, 3], [-2, -1]):
        raise Unsupported(f"mean over {dim}, keepdim={keepdim}")
    return torch_nn.GlobalAvgPool()


def _mul(x, factor):
    if not isinstance(x, fx.Node):
        x, factor = factor, x
    if not isinstance(factor, (int, float)):
        raise Unsupported("mul of two tensors")
    return torch_nn.Scale(float(factor))


def _view(x, *shape):
    """x.view(x.size(0), -1), or with x.shape[0], is x.flatten(1)."""
    shape = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    if len(shape) != 2 or not _is_count(shape[0], x) or shape[1] != -1:
        raise Unsupported(f"view to {', '.join(map(str, shape))} (x.flatten(1) is known)")
    return nn.Flatten(1)


def _dropout(x, p=0.5, training=True, inplace=False):
    raise Unsupported("F.dropout (nn.Dropout, which knows the mode, is known)")


CALLS = {
    "relu": lambda x, inplace=False: nn.ReLU(inplace),
    "relu_": lambda x: nn.ReLU(True),
    "sigmoid": lambda x: nn.Sigmoid(),
    "tanh": lambda x: nn.Tanh(),
    "gelu": lambda x, approximate="none": nn.GELU(approximate),
    "silu": lambda x, inplace=False: nn.SiLU(inplace),
    "max_pool2d": _max_pool2d,
    "avg_pool2d": lambda x, *args, **options: nn.AvgPool2d(*args, **options),
    "adaptive_avg_pool2d": lambda x, output_size: nn.AdaptiveAvgPool2d(output_size),
    "local_response_norm": lambda x, *args, **options: nn.LocalResponseNorm(*args, **options),
    "flatten": lambda x, start_dim=0, end_dim=-1: nn.Flatten(start_dim, end_dim),
    "mean": _mean,
    **dict.fromkeys(("mul", "imul", "mul_"), _mul),
    **dict.fromkeys(("view", "reshape"), _view),
    "dropout": _dropout,
}
ADD = {"add": False, "iadd": True, "add_": True}  # does it write to what it adds to?
WRITE = ("relu_", "imul", "mul_")
# y may be x itself, or another view of it
SAME = (nn.Identity, nn.Dropout, nn.Flatten)


def name(node: fx.Node) -> str:
    """What a node calls, by torch's name for it."""
    if not callable(node.target):
        return node.target
    name = getattr(node.target, "__name__", str(node.target))
    known = any(getattr(home, name, None) is node.target for home in (torch, F, operator))
    return name if known else f"{getattr(node.target, '__module__', '')}.{name}"


def is_size(node: fx.Node) -> bool:
    """x.size(…), x.shape, or one of them: numbers, of which no layer is made."""
    if node.op == "call_function" and node.target is operator.getitem:
        return is_size(node.args[0])
    return (node.op, node.target) == ("call_method", "size") or (
        node.op == "call_function" and node.target is getattr and node.args[1] == "shape"
    )


def _is_count(size, x: fx.Node) -> bool:
    """Is it x's own number of samples?"""
    if not isinstance(size, fx.Node) or not is_size(size):
        return False
    if size.target is operator.getitem:
        whole, index = size.args
        return index == 0 and isinstance(whole, fx.Node) and whole.args[0] is x
    return size.target == "size" and (*size.args, size.kwargs.get("dim"))[:2] == (x, 0)
