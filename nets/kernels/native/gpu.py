"""Kernels for a GPU, in Triton: a norm with its activation, and a 2 × 2 pool, in as few passes as possible.

The channels of a place are contiguous (channels_last), so images are rows of C numbers. Elementwise kernels
treat all rows as one line of numbers. Sums over the rows are computed in two steps with a fixed order: each
of many programs sums its share of the rows, then one program per block of channels adds these sums.
Everything is computed in float32 and rounded once. pointwise.cpp has the same formulas for a CPU.
"""

# Triton declares the types that a kernel sees inside; its launchers take plain numbers and strings.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from nets.kernels.native import _like, channel_rows

LINE = 1024  # numbers per program in elementwise kernels
TALL, WIDE = 32, 64  # rows and channels that a program loads at once for a sum
SHARES = 512  # programs that share the rows of a sum: several for each multiprocessor of a large GPU

SQRT_HALF = tl.constexpr(0.7071067811865476)
INV_SQRT_2PI = tl.constexpr(0.3989422804014327)


@triton.jit
def _act(u, act: tl.constexpr):
    """f(u)"""
    if act == "gelu":
        return u * 0.5 * (1.0 + tl.erf(u * SQRT_HALF))
    if act == "relu":
        return tl.where(u <= 0.0, 0.0, u)  # NaN stays NaN
    return u


@triton.jit
def _slope(u, act: tl.constexpr):
    """f'(u): of GELU Φ(u) + u·φ(u), see nets/layers/activations.py."""
    if act == "gelu":
        return 0.5 * (1.0 + tl.erf(u * SQRT_HALF)) + u * INV_SQRT_2PI * tl.exp(-0.5 * u * u)
    if act == "relu":
        return tl.where(u <= 0.0, 0.0, 1.0)
    return tl.full(u.shape, 1.0, tl.float32)


@triton.jit
def _on_the_line(c: tl.constexpr, line: tl.constexpr):
    """The indices of this program's numbers in the line, and their channels."""
    first = tl.program_id(0).to(tl.int64) * line
    return first + tl.arange(0, line), ((first % c).to(tl.int32) + tl.arange(0, line)) % c


@triton.jit
def _act_forward(x, y, mean, scale, bias, n, c: tl.constexpr, act: tl.constexpr, line: tl.constexpr):
    at, channel = _on_the_line(c, line)
    there = at < n
    u = tl.load(x + at, there).to(tl.float32) - tl.load(mean + channel)
    u = u * tl.load(scale + channel) + tl.load(bias + channel)
    tl.store(y + at, _act(u, act), there)


@triton.jit
def _moments(x, sums, m, c, tall: tl.constexpr, wide: tl.constexpr):
    """This share's Σ(x − k) and Σ(x − k)². k is the first row: near the mean, so that few digits cancel."""
    channel = tl.program_id(1) * wide + tl.arange(0, wide)
    k = tl.load(x + channel, channel < c, 0.0).to(tl.float32)[None, :]
    one, two = tl.zeros((tall, wide), tl.float32), tl.zeros((tall, wide), tl.float32)
    for first in range(tl.program_id(0) * tall, m, tl.num_programs(0) * tall):
        row = first + tl.arange(0, tall)
        there = (row < m)[:, None] & (channel < c)[None, :]
        at = row.to(tl.int64)[:, None] * c + channel[None, :]
        d = tl.where(there, tl.load(x + at, there, 0.0).to(tl.float32) - k, 0.0)
        one += d
        two += d * d
    to = sums + tl.program_id(0) * 2 * c + channel
    tl.store(to, tl.sum(one, 0), channel < c)
    tl.store(to + c, tl.sum(two, 0), channel < c)


@triton.jit
def _finish_moments(x, sums, mean, var, m, c, shares, tall: tl.constexpr, wide: tl.constexpr):
    """mean = k + Σ(x − k)/m, variance = Σ(x − k)²/m − (mean − k)²"""
    channel = tl.program_id(0) * wide + tl.arange(0, wide)
    one, two = _all_shares(sums, channel, c, shares, tall, wide)
    d = one / m
    v = two / m - d * d
    tl.store(mean + channel, tl.load(x + channel, channel < c, 0.0).to(tl.float32) + d, channel < c)
    tl.store(var + channel, tl.where(v < 0.0, 0.0, v), channel < c)  # NaN stays NaN


@triton.jit
def _all_shares(sums, channel, c, shares, tall: tl.constexpr, wide: tl.constexpr):
    """The two sums over all shares."""
    one, two = tl.zeros((tall, wide), tl.float32), tl.zeros((tall, wide), tl.float32)
    for first in range(0, shares, tall):
        row = first + tl.arange(0, tall)
        there = (row < shares)[:, None] & (channel < c)[None, :]
        at = sums + row[:, None] * 2 * c + channel[None, :]
        one += tl.load(at, there, 0.0)
        two += tl.load(at + c, there, 0.0)
    return tl.sum(one, 0), tl.sum(two, 0)


@triton.jit
def _act_sums(
    x, dy, mean, scale, bias, sums, m, c, act: tl.constexpr, tall: tl.constexpr, wide: tl.constexpr
):
    """This share's Σg and Σg·(x − mean), with g = dy·f'(u)."""
    channel = tl.program_id(1) * wide + tl.arange(0, wide)
    inside = channel < c
    mu, s = tl.load(mean + channel, inside, 0.0)[None, :], tl.load(scale + channel, inside, 0.0)[None, :]
    b = tl.load(bias + channel, inside, 0.0)[None, :]
    one, two = tl.zeros((tall, wide), tl.float32), tl.zeros((tall, wide), tl.float32)
    for first in range(tl.program_id(0) * tall, m, tl.num_programs(0) * tall):
        row = first + tl.arange(0, tall)
        there = (row < m)[:, None] & inside[None, :]
        at = row.to(tl.int64)[:, None] * c + channel[None, :]
        d = tl.load(x + at, there, 0.0).to(tl.float32) - mu
        g = tl.load(dy + at, there, 0.0).to(tl.float32) * _slope(d * s + b, act)
        g = tl.where(there, g, 0.0)
        one += g
        two += g * tl.where(there, d, 0.0)
    to = sums + tl.program_id(0) * 2 * c + channel
    tl.store(to, tl.sum(one, 0), inside)
    tl.store(to + c, tl.sum(two, 0), inside)


@triton.jit
def _finish_sums(sums, total, c, shares, tall: tl.constexpr, wide: tl.constexpr):
    channel = tl.program_id(0) * wide + tl.arange(0, wide)
    one, two = _all_shares(sums, channel, c, shares, tall, wide)
    tl.store(total + channel, one, channel < c)
    tl.store(total + c + channel, two, channel < c)


@triton.jit
def _act_backward(
    x, dy, dx, mean, rstd, scale, bias, total, n, m,
    c: tl.constexpr, act: tl.constexpr, training: tl.constexpr, line: tl.constexpr,
):  # fmt: skip
    """In training dx = s·(g − Σg/m − x̂·Σg·x̂/m) with x̂ = r·(x − mean), else dx = s·g."""
    at, channel = _on_the_line(c, line)
    there = at < n
    s = tl.load(scale + channel)
    d = tl.load(x + at, there, 0.0).to(tl.float32) - tl.load(mean + channel)
    g = tl.load(dy + at, there, 0.0).to(tl.float32) * _slope(d * s + tl.load(bias + channel), act)
    if training:
        r = tl.load(rstd + channel)
        g -= tl.load(total + channel) / m + d * r * r * tl.load(total + c + channel) / m
    tl.store(dx + at, s * g, there)


@triton.jit
def _pool(x, y, winner, oh, ow, h, w, c: tl.constexpr, line: tl.constexpr):
    """The largest of each 2 × 2 window and its index, 0 to 3 in row order. The first wins a tie; a NaN wins.

    A program computes a row of windows, or a part of one.
    """
    row = tl.program_id(0)
    at = tl.program_id(1) * line + tl.arange(0, line)
    there = at < ow * c
    corner = x + (row // oh * h + row % oh * 2).to(tl.int64) * w * c + at // c * 2 * c + at % c
    best = tl.load(corner, there, 0.0).to(tl.float32)
    who = tl.zeros((line,), tl.int32)
    for k in tl.static_range(1, 4):
        other = tl.load(corner + (k // 2 * w + k % 2) * c, there, 0.0).to(tl.float32)
        wins = (other > best) | ((other != other) & (best == best))
        best, who = tl.where(wins, other, best), tl.where(wins, k, who)
    to = row.to(tl.int64) * ow * c + at
    tl.store(y + to, best, there)
    tl.store(winner + to, who.to(tl.uint8), there)


@triton.jit
def _unpool(dy, winner, dx, oh, ow, h, w, c: tl.constexpr, line: tl.constexpr):
    """dx is the window's dy at the winner's place, and 0 elsewhere, including places in no window."""
    row = tl.program_id(0)  # of dx
    at = tl.program_id(1) * line + tl.arange(0, line)
    there, r, column = at < w * c, row % h, at // c
    seen = there & (r // 2 < oh) & (column // 2 < ow)
    window = (row // h * oh + r // 2).to(tl.int64) * ow * c + column // 2 * c + at % c
    won = tl.load(winner + window, seen, 0).to(tl.int32) == r % 2 * 2 + column % 2
    g = tl.where(seen & won, tl.load(dy + window, seen, 0.0).to(tl.float32), 0.0)
    tl.store(dx + row.to(tl.int64) * w * c + at, g, there)


def _lines(n: int) -> tuple[int]:
    """The grid of an elementwise kernel over n numbers."""
    return (triton.cdiv(n, LINE),)


def _sums(kernel, a: Tensor, *args, **kw) -> Tensor:
    """The two sums of `kernel` over the rows of a (…, C), for each share: (shares, 2, C)."""
    c = a.shape[-1]
    m = a.numel() // c
    shares = min(SHARES, triton.cdiv(m, TALL))
    sums = a.new_empty((shares, 2, c), dtype=torch.float32)
    kernel[(shares, triton.cdiv(c, WIDE))](a, *args, sums, m, c, **kw, tall=TALL, wide=WIDE)
    return sums


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each channel's mean and (biased) variance, float32 (C)."""
    a, c = channel_rows(x), x.shape[1]
    mean, var = (x.new_empty(c, dtype=torch.float32) for _ in range(2))
    sums = _sums(_moments, a)
    grid = (triton.cdiv(c, WIDE),)
    _finish_moments[grid](a, sums, mean, var, a.numel() // c, c, len(sums), tall=TALL, wide=WIDE)
    return mean, var


def act_forward(x: Tensor, mean: Tensor, scale: Tensor, bias: Tensor, act: str) -> Tensor:
    """f((x − mean)·scale + bias) with mean, scale and bias float32 (C). act: the name of f."""
    y, a = _like(x), channel_rows(x)
    n = x.numel()
    _act_forward[_lines(n)](a, y, mean, scale, bias, n, c=x.shape[1], act=act, line=LINE)
    return y


def norm_act_backward(x, dy, mean, rstd, scale, bias, act: str, training: bool, input_grad: bool = True):
    """The backward of f((x − mean)·scale + bias): dx, and the sums (2, C) of g = dy·f' and of g·(x − mean).

    Without input_grad, dx isn't computed, and is empty.
    """
    a, b, (n, c) = channel_rows(x), channel_rows(dy), (x.numel(), x.shape[1])
    sums = _sums(_act_sums, a, b, mean, scale, bias, act=act)
    total = mean.new_empty((2, c))
    _finish_sums[(triton.cdiv(c, WIDE),)](sums, total, c, len(sums), tall=TALL, wide=WIDE)
    if not input_grad:
        return x.new_empty(0), total
    dx = _like(x)
    values = (mean, rstd, scale, bias, total, n, n // c)
    _act_backward[_lines(n)](a, b, dx, *values, c=c, act=act, training=training, line=LINE)
    return dx, total


def bias_act_backward(x: Tensor, dy: Tensor, bias: Tensor, act: str, input_grad: bool):
    """The backward of f(x + bias): (dx, dbias). Without input_grad, dx isn't computed, and is empty."""
    ones, zeros = torch.ones_like(bias), torch.zeros_like(bias)
    dx, sums = norm_act_backward(x, dy, zeros, ones, ones, bias, act, False, input_grad)
    return dx, sums[0].clone()


def pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """A 2 × 2 max pool of x (N, C, H, W): (y, winner), where winner is 0 to 3 in row order, uint8."""
    a, (n, c, h, w) = channel_rows(x), x.shape
    oh, ow = h // 2, w // 2
    y, winner = (_like(x, (n, c, oh, ow), dtype) for dtype in (x.dtype, torch.uint8))
    _pool[n * oh, triton.cdiv(ow * c, LINE)](a, y, winner, oh, ow, h, w, c=c, line=LINE)
    return y, winner


def unpool(dy: Tensor, winner: Tensor, h: int, w: int) -> Tensor:
    """The backward of pool, for images of h × w: dy at the winner's place, 0 elsewhere."""
    a, b, (n, c, oh, ow) = channel_rows(dy), channel_rows(winner), dy.shape
    dx = _like(dy, (n, c, h, w))
    _unpool[n * h, triton.cdiv(w * c, LINE)](a, b, dx, oh, ow, h, w, c=c, line=LINE)
    return dx
