"""This project's kernels as operators of torch: in C++ for a CPU, in Triton for a GPU.

    declare.py     kernels as operators
    check.py       what an operator's tensors must be
    cpp.py         compiles the C++ sources at first use
    cache.py       keeps the compiled library, and checks it before it is loaded
    common.h       vectors of 16 numbers, bfloat16
    amx.h          the matrix unit of some processors
    winograd.h     a 3 x 3 convolution of 2 x 2 places with 16 multiplications, and its derivatives
    conv.cpp       3 x 3 convolutions and their gradients, with and without a pool behind them
    pointwise.cpp  a norm and its activation in one pass
    gpu.py         a norm and its activation on a GPU, and a pool

The formulas are those of the layers. `available` is False if there is no compiler, and for devices and
dtypes without kernels; `why_not` says which. Layers then have the forms of backend "torch", or their own
formulas.
"""

import ctypes
import functools
import os
import shutil

import torch
from torch import Tensor

from nets.kernels.native.cpp import library, reason
from nets.kernels.native.declare import DTYPES, declare, implement, operator

# dtypes of the kernels on a CPU, with the suffix of the functions' names
TYPES = {torch.float32: "f32", torch.bfloat16: "bf16"}
ACTS = ("none", "relu", "gelu")


def available(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there are kernels for this device and dtype. The first call compiles them."""
    if device.type == "cuda":
        return dtype in DTYPES["CUDA"] and _has_triton()
    return has_convolutions(device, dtype)


def why_not(device: torch.device, dtype: torch.dtype) -> str:
    """Why there are no kernels for this device and dtype; "" if there are."""
    if available(device, dtype):
        return ""
    known = DTYPES.get(device.type.upper(), ())
    if dtype not in known:
        names = " and ".join(str(t).removeprefix("torch.") for t in known)
        return f"on {device.type} they take {names or 'nothing'}, not {str(dtype).removeprefix('torch.')}"
    return reason[-1] if reason else "no compiler for Triton, or a GPU without bfloat16"


def has_convolutions(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernels include convolutions. On a GPU, the library's are used."""
    return device.type == "cpu" and dtype in TYPES and _has_library()


def _has_library() -> bool:
    return library() is not None


# As the decorator torch.compiler.assume_constant_result, which would import torch._dynamo and take a second.
_has_library._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]


@functools.cache
def _has_triton() -> bool:
    """Whether Triton works here. If it does, its kernels are registered as the operators for CUDA."""
    if not any(shutil.which(name) for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name):
        return False  # Triton compiles a launcher in C for each kernel
    if torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):  # GPUs without bfloat16
        return False
    try:
        from nets.kernels.native import gpu
    except ImportError as e:
        reason.append(str(e))
        return False
    for name in ("moments", "act_forward", "bias_act_backward", "norm_act_backward", "pool", "unpool"):
        implement(name, getattr(gpu, name), "CUDA")
    return True


def channel_rows(x: Tensor) -> Tensor:
    """Images (N, C, H, W) as contiguous (N, H, W, C): a view if x is channels_last, else a copy."""
    return x.permute(0, 2, 3, 1).contiguous()


def _row_count(x: Tensor):
    """The number of rows of C channels in images x, as a C long."""
    return ctypes.c_long(x.numel() // x.shape[1])


def _like(x: Tensor, shape=None, dtype=None) -> Tensor:
    """An uninitialized channels_last tensor with the shape and dtype of x, unless they are given."""
    n, c, h, w = shape or x.shape
    return x.new_empty((n, h, w, c), dtype=dtype or x.dtype).permute(0, 3, 1, 2)


def _call(name: str, x: Tensor, *args):
    """Call the C function `name` for x's dtype. Tensors are passed as pointers to their data.

    RuntimeError, as torch's allocator raises it, if the function can't allocate memory.
    """
    function = getattr(library(), f"{name}_{TYPES[x.dtype]}")
    missing = function(*(ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else a for a in args))
    if missing:
        size = f": you tried to allocate {missing} bytes" if missing > 0 else ""
        raise RuntimeError(f"{name}: can't allocate memory{size}")


def _sizes(x: Tensor, o: int, hw=None):
    """N, H, W, C and O: arguments of the kernels. hw replaces the height and width of x."""
    n, c, h, w = x.shape
    return n, *(hw or (h, w)), c, o


def _filters(w: Tensor, bias: Tensor | None = None):
    """w in contiguous float32, bias in float32 (zeros for None), and w's strides of filters and channels."""
    w = w.float().contiguous()
    bias = w.new_zeros(len(w)) if bias is None else bias.float().contiguous()
    return w, bias, (ctypes.c_long(9 * w.shape[1]), ctypes.c_long(9))


def _transposed(w: Tensor):
    """As _filters, with inputs and outputs exchanged and without a bias."""
    w, _, (filters, channels) = _filters(w)
    return w, w.new_zeros(w.shape[1]), (channels, filters)


@operator(
    "conv(Tensor x, Tensor w, Tensor? bias) -> Tensor",
    lambda x, w, bias: _like(x, (x.shape[0], w.shape[0], *x.shape[2:])),
    "x: images N C H W, w: float O C 3 3, bias: float O",
)
def conv(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    """A 3 × 3 convolution, stride 1, padding 1: x (N, C, H, W), w (O, C, 3, 3), bias (O) or None."""
    y, a = _like(x, (len(x), len(w), *x.shape[2:])), channel_rows(x)
    w, bias, strides = _filters(w, bias)
    _call("convolve", x, a, w, bias, y, *_sizes(x, len(w)), *strides, 0)
    return y


@operator(
    "conv_input_gradient(Tensor dy, Tensor w) -> Tensor",
    lambda dy, w: _like(dy, (dy.shape[0], w.shape[1], *dy.shape[2:])),
    "dy: images N O H W, w: float O C 3 3",
)
def conv_input_gradient(dy: Tensor, w: Tensor) -> Tensor:
    """dx (N, C, H, W) of the convolution: dy (N, O, H, W) convolved with w, rotated by 180 degrees."""
    dx, a = _like(dy, (len(dy), w.shape[1], *dy.shape[2:])), channel_rows(dy)
    w, zeros, strides = _transposed(w)
    _call("convolve", dy, a, w, zeros, dx, *_sizes(dy, w.shape[1]), *strides, 1)
    return dx


def _empty_dw(x, dy):
    return x.new_empty((dy.shape[1], 3, 3, x.shape[1]), dtype=torch.float32).permute(0, 3, 1, 2)


@operator(
    "conv_weight_gradient(Tensor x, Tensor dy) -> Tensor",
    _empty_dw,
    "x: images N C H W, dy: images N O H W",
)
def conv_weight_gradient(x: Tensor, dy: Tensor) -> Tensor:
    """dw (O, C, 3, 3) of the convolution, float32."""
    dw, a, b = _empty_dw(x, dy), channel_rows(x), channel_rows(dy)
    _call("weight_gradient", x, a, b, dw, *_sizes(x, dy.shape[1]))
    return dw


def _empty_pool(x: Tensor, w: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    shape = x.shape[0], w.shape[0], x.shape[2] // 2, x.shape[3] // 2
    return _like(x, shape), _like(x, shape, torch.uint8)


@operator(
    "conv_pool(Tensor x, Tensor w, Tensor? bias) -> (Tensor, Tensor)",
    _empty_pool,
    "x: images N C H W, w: float O C 3 3, bias: float O",
)
def conv_pool(x: Tensor, w: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """A convolution and a 2 × 2 max pool: (y, winner), both (N, O, H // 2, W // 2).

    winner: which of a window's four results is the largest, 0 to 3 in row order, uint8.
    """
    (y, winner), a = _empty_pool(x, w, bias), channel_rows(x)
    w, bias, strides = _filters(w, bias)
    _call("convolve_pool", x, a, w, bias, y, winner, *_sizes(x, len(w)), *strides)
    return y, winner


@operator(
    "conv_pool_input_gradient(Tensor dy, Tensor winner, Tensor w, SymInt height, SymInt width) -> Tensor",
    lambda dy, winner, w, height, width: _like(dy, (dy.shape[0], w.shape[1], height, width)),
    # the sizes come last, and half of them are the sizes of dy
    "dy: images N O H/2 W/2, winner: uint8 N O H/2 W/2, w: float O C 3 3, height: H, width: W",
)
def conv_pool_input_gradient(dy: Tensor, winner: Tensor, w: Tensor, height: int, width: int) -> Tensor:
    """dx of convolution and pool, (N, C, height, width)."""
    dx, a, b = _like(dy, (len(dy), w.shape[1], height, width)), channel_rows(dy), channel_rows(winner)
    w, zeros, strides = _transposed(w)
    _call("unpool_convolve", dy, a, b, w, zeros, dx, *_sizes(dy, w.shape[1], (height, width)), *strides)
    return dx


@operator(
    "conv_pool_weight_gradient(Tensor x, Tensor dy, Tensor winner) -> Tensor",
    lambda x, dy, winner: _empty_dw(x, dy),
    "x: images N C H W, dy: images N O H/2 W/2, winner: uint8 N O H/2 W/2",
)
def conv_pool_weight_gradient(x: Tensor, dy: Tensor, winner: Tensor) -> Tensor:
    """dw of convolution and pool, (O, C, 3, 3), float32."""
    dw, a, b, c = _empty_dw(x, dy), channel_rows(x), channel_rows(dy), channel_rows(winner)
    _call("unpool_weight_gradient", x, a, b, c, dw, *_sizes(x, dy.shape[1]))
    return dw


@operator(
    "moments(Tensor x) -> (Tensor, Tensor)",
    lambda x: _empty_moments(x),
    "x: images N C H W",
    empty=False,
)
def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each channel's mean and (biased) variance, float32 (C)."""
    mean, var = _empty_moments(x)
    a = channel_rows(x)
    _call("moments", x, a, _row_count(x), x.shape[1], mean, var)
    return mean, var


def _empty_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    mean, var = (x.new_empty(x.shape[1], dtype=torch.float32) for _ in range(2))
    return mean, var


@operator(
    "act_forward(Tensor x, Tensor mean, Tensor scale, Tensor bias, str act) -> Tensor",
    lambda x, mean, scale, bias, act: _like(x),
    "x: images N C H W, mean: float32 C, scale: float32 C, bias: float32 C",
)
def act_forward(x: Tensor, mean: Tensor, scale: Tensor, bias: Tensor, act: str) -> Tensor:
    """f((x − mean)·scale + bias) with mean, scale and bias float32 (C). act: the name of f, one of ACTS."""
    y, a = _like(x), channel_rows(x)
    _call("act_forward", x, a, y, _row_count(x), x.shape[1], mean, scale, bias, ACTS.index(act))
    return y


@operator(
    "bias_act_backward(Tensor x, Tensor dy, Tensor bias, str act, bool input_grad) -> (Tensor, Tensor)",
    lambda x, dy, bias, act, input_grad: (
        _like(x) if input_grad else x.new_empty(0),
        bias.new_empty(bias.shape),
    ),
    "x: images N C H W, dy: images N C H W, bias: float32 C",
)
def bias_act_backward(x: Tensor, dy: Tensor, bias: Tensor, act: str, input_grad: bool):
    """The backward of f(x + bias): (dx, dbias). Without input_grad, dx isn't computed, and is empty."""
    dx = _like(x) if input_grad else x.new_empty(0)
    sums, ones, zeros = bias.new_empty((2, len(bias))), torch.ones_like(bias), torch.zeros_like(bias)
    a, b = channel_rows(x), channel_rows(dy)
    dx_or_null = dx if input_grad else None
    options = (zeros, ones, bias, sums, ACTS.index(act))
    _call("act_backward", x, a, b, dx_or_null, _row_count(x), x.shape[1], *options)
    return dx, sums[0].clone()


@operator(
    "norm_act_backward(Tensor x, Tensor dy, Tensor mean, Tensor rstd, Tensor scale, Tensor bias, str act,"
    " bool training) -> (Tensor, Tensor)",
    lambda x, dy, mean, rstd, scale, bias, act, training: (_like(x), mean.new_empty((2, len(mean)))),
    "x: images N C H W, dy: images N C H W,"
    " mean: float32 C, rstd: float32 C, scale: float32 C, bias: float32 C",
)
def norm_act_backward(x, dy, mean, rstd, scale, bias, act: str, training: bool):
    """The backward of f((x − mean)·scale + bias) with scale = γ·rstd.

    In training, mean and rstd depend on x. Returns dx, and the sums (2, C) of g = dy·f' and of
    g·(x − mean), from which dβ and dγ follow.
    """
    dx, sums = _like(x), mean.new_empty((2, len(mean)))
    a, b = channel_rows(x), channel_rows(dy)
    options = (mean, rstd, scale, bias, sums, ACTS.index(act), int(training))
    _call("norm_act_backward", x, a, b, dx, _row_count(x), x.shape[1], *options)
    return dx, sums


# Only on a GPU. On a CPU, conv_pool computes a pool together with the convolution before it.
pool = declare(
    "pool(Tensor x) -> (Tensor, Tensor)",
    lambda x: tuple(
        _like(x, (*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2), t) for t in (x.dtype, torch.uint8)
    ),
    "x: images N C H W",
)
unpool = declare(
    "unpool(Tensor dy, Tensor winner, SymInt height, SymInt width) -> Tensor",
    lambda dy, winner, height, width: _like(dy, (*dy.shape[:2], height, width)),
    "dy: images N C H/2 W/2, winner: uint8 N C H/2 W/2, height: H, width: W",
)
