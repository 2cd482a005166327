"""Tensors of all kinds of values, dtypes and memory layouts."""

import torch

DTYPES = (torch.float64, torch.float32, torch.bfloat16)
LAYOUTS = ("contiguous", "channels_last", "gaps", "transposed", "expanded")
# plain: a normal distribution; ties: only −1, 0 and 1; edges: finite, but hard; wild: NaN and ±inf too
VALUES = ("plain", "ties", "edges", "wild", "mostly -inf")


def numbers(shape, values, dtype, pointwise, generator):
    """Random numbers of one of VALUES. pointwise: no two of them are added."""
    if values == "ties":
        return torch.randint(-1, 2, shape, generator=generator).to(dtype)
    t = torch.randn(shape, generator=generator).to(dtype)
    if values == "plain":
        return t
    limits = torch.finfo(dtype)
    # whether a sum of huge numbers overflows depends on their order
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
    """The same values in another memory layout; "expanded" repeats the first values of the first sample."""
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
