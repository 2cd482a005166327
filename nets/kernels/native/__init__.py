"""Our own kernels, called as operators: in C++ for a CPU, in Triton for a GPU.

    cpp.py         C++ is compiled once, by the machine's compiler
    common.h       vectors of 16 numbers, bfloat16
    amx.h          a processor's matrix unit
    winograd.h     a 3 x 3 convolution of 2 x 2 places with 16 multiplications, and its derivatives
    conv.cpp       3 x 3 convolutions and their gradients, with and without a pool behind them
    pointwise.cpp  a norm and its activation in one pass
    gpu.py         the same for a GPU, and a pool

Each is a formula that a layer has in plain form too. Where there is no compiler, or on a device or
for a type that these don't serve, `serve` says no, and layers do without.
"""

import ctypes
import functools
import os
import shutil

import torch
from torch import Tensor

from nets.kernels.native.cpp import library, reason

TYPES = {torch.float32: "f32", torch.bfloat16: "bf16"}
ON_A_GPU = (*TYPES, torch.float16)
ACTS = ("none", "relu", "gelu")


def serve(device: torch.device, dtype: torch.dtype) -> bool:
    """Are there kernels for this device and type? They are compiled when this is first asked."""
    if device.type == "cuda":
        return dtype in ON_A_GPU and _have_triton()
    return convolves(device, dtype)


def convolves(device: torch.device, dtype: torch.dtype) -> bool:
    """Are there kernels for convolutions too? A GPU's are the library's."""
    return device.type == "cpu" and dtype in TYPES and _have()


def _have() -> bool:
    return library() is not None


# what torch.compiler.assume_constant_result sets; that function imports all of torch._dynamo, in a second
_have._dynamo_marked_constant = True


@functools.cache
def _have_triton() -> bool:
    """Is there Triton, with what it compiles by, and a GPU for it? Then its kernels are operators too."""
    if not any(shutil.which(name) for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name):
        return False  # each kernel's launcher is a little C
    if torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):  # without bfloat16
        return False
    try:
        from nets.kernels.native import gpu
    except ImportError as e:
        reason.append(str(e))
        return False
    for name in ("moments", "act_forward", "bias_act_backward", "norm_act_backward", "pool", "unpool"):
        _operators.impl(name, getattr(gpu, name), "CUDA")
    return True


def rows(x: Tensor) -> Tensor:
    """Pictures (N, C, H, W) as (N, H, W, C), without a gap: a view of what is channels_last."""
    return x.permute(0, 2, 3, 1).contiguous()


def _count(x: Tensor):
    """How many rows of channels pictures x are, for a kernel."""
    return ctypes.c_long(x.numel() // x.shape[1])


def _like(x: Tensor, shape=None, dtype=None) -> Tensor:
    """Room for pictures of `shape`, by default x's, channels_last."""
    n, c, h, w = shape or x.shape
    return x.new_empty((n, h, w, c), dtype=dtype or x.dtype).permute(0, 3, 1, 2)


def _call(name: str, x: Tensor, *args):
    function = getattr(library(), f"{name}_{TYPES[x.dtype]}")
    function(*(ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else a for a in args))


_operators = torch.library.Library("handwritten", "DEF")


def _declare(signature: str, fake):
    """An operator, which a compiler calls and doesn't look into; fake gives results without numbers."""
    name = signature.partition("(")[0]
    _operators.define(signature, tags=[torch.Tag.needs_exact_strides])
    torch.library.register_fake(f"handwritten::{name}", fake, lib=_operators)
    return getattr(torch.ops.handwritten, name)


def _operator(signature: str, fake):
    """The same, with a function that does it on a CPU."""

    def register(function):
        operator = _declare(signature, fake)
        _operators.impl(signature.partition("(")[0], function, "CPU")
        return operator

    return register


def _sizes(x: Tensor, o: int, hw=None):
    """N, H, W, C and O, as the kernels take them."""
    n, c, h, w = x.shape
    return n, *(hw or (h, w)), c, o


def _filters(w: Tensor, bias: Tensor | None = None):
    """w as float32 in order, bias likewise, and how many numbers lie between w's filters, its channels."""
    w = w.float().contiguous()
    bias = w.new_zeros(len(w)) if bias is None else bias.float().contiguous()
    return w, bias, (ctypes.c_long(9 * w.shape[1]), ctypes.c_long(9))


def _turned(w: Tensor):
    """The same of w with inputs for outputs."""
    w, _, (filters, channels) = _filters(w)
    return w, w.new_zeros(w.shape[1]), (channels, filters)


@_operator(
    "conv(Tensor x, Tensor w, Tensor? bias) -> Tensor",
    lambda x, w, bias: _like(x, (x.shape[0], w.shape[0], *x.shape[2:])),
)
def conv(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    """A 3 × 3 convolution, stride 1, padding 1: x (N, C, H, W), w (O, C, 3, 3), bias (O) or None."""
    y, a = _like(x, (len(x), len(w), *x.shape[2:])), rows(x)
    w, bias, apart = _filters(w, bias)
    _call("convolve", x, a, w, bias, y, *_sizes(x, len(w)), *apart, 0)
    return y


@_operator(
    "conv_input_gradient(Tensor dy, Tensor w) -> Tensor",
    lambda dy, w: _like(dy, (dy.shape[0], w.shape[1], *dy.shape[2:])),
)
def conv_input_gradient(dy: Tensor, w: Tensor) -> Tensor:
    """Its dx (N, C, H, W): dy (N, O, H, W) convolved with w turned round."""
    dx, a = _like(dy, (len(dy), w.shape[1], *dy.shape[2:])), rows(dy)
    w, nothing, apart = _turned(w)
    _call("convolve", dy, a, w, nothing, dx, *_sizes(dy, w.shape[1]), *apart, 1)
    return dx


def _no_dw(x, dy):
    return x.new_empty((dy.shape[1], 3, 3, x.shape[1]), dtype=torch.float32).permute(0, 3, 1, 2)


@_operator("conv_weight_gradient(Tensor x, Tensor dy) -> Tensor", _no_dw)
def conv_weight_gradient(x: Tensor, dy: Tensor) -> Tensor:
    """Its dw (O, C, 3, 3), float32."""
    dw, a, b = _no_dw(x, dy), rows(x), rows(dy)
    _call("weight_gradient", x, a, b, dw, *_sizes(x, dy.shape[1]))
    return dw


def _pooled(x, w, bias):
    shape = x.shape[0], w.shape[0], x.shape[2] // 2, x.shape[3] // 2
    return _like(x, shape), _like(x, shape, torch.uint8)


@_operator("conv_pool(Tensor x, Tensor w, Tensor? bias) -> (Tensor, Tensor)", _pooled)
def conv_pool(x: Tensor, w: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """The same, then the largest of each 2 × 2, and which it was, 0 to 3 in row order, a byte each."""
    (y, winner), a = _pooled(x, w, bias), rows(x)
    w, bias, apart = _filters(w, bias)
    _call("convolve_pool", x, a, w, bias, y, winner, *_sizes(x, len(w)), *apart)
    return y, winner


@_operator(
    "conv_pool_input_gradient(Tensor dy, Tensor winner, Tensor w, SymInt height, SymInt width) -> Tensor",
    lambda dy, winner, w, height, width: _like(dy, (dy.shape[0], w.shape[1], height, width)),
)
def conv_pool_input_gradient(dy: Tensor, winner: Tensor, w: Tensor, height: int, width: int) -> Tensor:
    """dx of both, for pictures of height × width."""
    dx, a, b = _like(dy, (len(dy), w.shape[1], height, width)), rows(dy), rows(winner)
    w, nothing, apart = _turned(w)
    _call("unpool_convolve", dy, a, b, w, nothing, dx, *_sizes(dy, w.shape[1], (height, width)), *apart)
    return dx


@_operator(
    "conv_pool_weight_gradient(Tensor x, Tensor dy, Tensor winner) -> Tensor",
    lambda x, dy, winner: _no_dw(x, dy),
)
def conv_pool_weight_gradient(x: Tensor, dy: Tensor, winner: Tensor) -> Tensor:
    """dw of both, float32."""
    dw, a, b, c = _no_dw(x, dy), rows(x), rows(dy), rows(winner)
    _call("unpool_weight_gradient", x, a, b, c, dw, *_sizes(x, dy.shape[1]))
    return dw


@_operator("moments(Tensor x) -> (Tensor, Tensor)", lambda x: _two(x))
def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each channel's mean and variance (divided by their number), float32 (C)."""
    mean, var = _two(x)
    a = rows(x)
    _call("moments", x, a, _count(x), x.shape[1], mean, var)
    return mean, var


def _two(x):
    return tuple(x.new_empty(x.shape[1], dtype=torch.float32) for _ in range(2))


@_operator(
    "act_forward(Tensor x, Tensor mean, Tensor scale, Tensor bias, str act) -> Tensor",
    lambda x, mean, scale, bias, act: _like(x),
)
def act_forward(x: Tensor, mean: Tensor, scale: Tensor, bias: Tensor, act: str) -> Tensor:
    """f((x − mean)·scale + bias), each of them float32 (C); act names f, one of ACTS."""
    y, a = _like(x), rows(x)
    _call("act_forward", x, a, y, _count(x), x.shape[1], mean, scale, bias, ACTS.index(act))
    return y


@_operator(
    "bias_act_backward(Tensor x, Tensor dy, Tensor bias, str act, bool wanted) -> (Tensor, Tensor)",
    lambda x, dy, bias, act, wanted: (_like(x) if wanted else x.new_empty(0), bias.new_empty(bias.shape)),
)
def bias_act_backward(x: Tensor, dy: Tensor, bias: Tensor, act: str, wanted: bool):
    """The backward of f(x + bias): (dx, dbias). dx is left out, and empty, unless it is wanted."""
    dx = _like(x) if wanted else x.new_empty(0)
    sums, one, nothing = bias.new_empty((2, len(bias))), torch.ones_like(bias), torch.zeros_like(bias)
    a, b = rows(x), rows(dy)
    to = dx if wanted else None
    _call("act_backward", x, a, b, to, _count(x), x.shape[1], nothing, one, bias, sums, ACTS.index(act))
    return dx, sums[0].clone()


@_operator(
    "norm_act_backward(Tensor x, Tensor dy, Tensor mean, Tensor rstd, Tensor scale, Tensor bias, str act,"
    " bool training) -> (Tensor, Tensor)",
    lambda x, dy, mean, rstd, scale, bias, act, training: (_like(x), mean.new_empty((2, len(mean)))),
)
def norm_act_backward(x, dy, mean, rstd, scale, bias, act: str, training: bool):
    """The backward of f((x − mean)·scale + bias), with scale = γ·rstd, mean and rstd x's own in training.

    Returns dx, and (2, C): the sums of g = dy·f' and of g·(x − mean), from which dβ and dγ follow.
    """
    dx, sums = _like(x), mean.new_empty((2, len(mean)))
    a, b = rows(x), rows(dy)
    of = (mean, rstd, scale, bias, sums, ACTS.index(act), int(training))
    _call("norm_act_backward", x, a, b, dx, _count(x), x.shape[1], *of)
    return dx, sums


# on a GPU alone: on a CPU a pool is done with the convolution before it
pool = _declare(
    "pool(Tensor x) -> (Tensor, Tensor)",
    lambda x: tuple(
        _like(x, (*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2), t) for t in (x.dtype, torch.uint8)
    ),
)
unpool = _declare(
    "unpool(Tensor dy, Tensor winner, SymInt height, SymInt width) -> Tensor",
    lambda dy, winner, height, width: _like(dy, (*dy.shape[:2], height, width)),
)
