"""Batches: shuffled, shifted, flipped and normalized by batched tensor code on the device.

What an epoch draws is a function of the seed and the epoch's number alone, and is drawn on the
CPU, so that every device sees the same pictures, and an interrupted epoch can be told again.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Plan:
    """One epoch's draws. order (N) holds every sample once; the rest is by place in the order."""

    order: Tensor
    shift: Tensor | None = None  # (N, 2) rows and columns
    flip: Tensor | None = None  # (N) bool
    hole: Tensor | None = None  # (N, 2) the center of the blanked square
    color: Tensor | None = None  # (N, 3) deviations along the colors' main axes

    def rows(self, begin: int, end: int) -> "Plan":
        return self.only(slice(begin, end))

    def only(self, which) -> "Plan":
        """The samples at the places `which`, a slice or a mask (N)."""
        return Plan(*(None if t is None else t[which] for t in vars(self).values()))


def generator(seed: int, epoch: int) -> torch.Generator:
    """An epoch's random numbers, on the CPU."""
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)


def plan(n: int, shape, data, augment, seed: int, epoch: int, device) -> Plan:
    """Draw an epoch for n samples of `shape` (C, H, W), as a config's [data] and [augment] ask."""
    draws = generator(seed, epoch)
    order = torch.randperm(n, generator=draws)
    shift = flip = hole = color = None
    if augment.crop_padding:
        shift = torch.randint(-augment.crop_padding, augment.crop_padding + 1, (n, 2), generator=draws)
    if data.crop_size:  # shape is what is cut out: how far from the larger picture's corner?
        shift = torch.randint(data.size - data.crop_size + 1, (n, 2), generator=draws)
    if augment.flip == "random":
        flip = torch.randint(2, (n,), generator=draws) == 1
    if augment.flip == "alternating":
        # by chance in the first epoch, the other way round in every next one: two epochs show
        # every picture both ways. Source: Jordan 2024, "94% on CIFAR-10 in 3.29 seconds".
        first = torch.randint(2, (n,), generator=torch.Generator().manual_seed(seed))[order]
        flip = (first + epoch) % 2 == 1
    if augment.cutout:
        hole = torch.stack([torch.randint(s, (n,), generator=draws) for s in shape[1:]], 1)
    if augment.color_jitter:
        color = torch.randn(n, 3, generator=draws) * augment.color_jitter
    parts = (order, shift, flip, hole, color)
    return Plan(*(None if t is None else t.to(device, non_blocking=True) for t in parts))


def take(x: Tensor, batch: Plan, side: int = 0) -> Tensor:
    """The batch's pictures from x (N, H, W, C), shifted and flipped: (B, H, W, C), same dtype.

    One gather does it all: a shift with reflected edges, and a flip, are other row and column
    numbers. Beyond the edge, row −r is row r, and row H−1+r is row H−1−r. With a `side`,
    (B, side, side, C) is cut out, a shift from the corner.
    """
    if x.dim() == 2:
        return x[batch.order]
    if batch.shift is None and batch.flip is None:
        return x[batch.order]
    _, h, w, _ = x.shape
    rows = torch.arange(side or h, device=x.device)[None]  # (1, H)
    cols = torch.arange(side or w, device=x.device)[None]
    if batch.shift is not None:
        rows = (rows + batch.shift[:, :1]).abs()  # (B, H)
        rows = h - 1 - (h - 1 - rows).abs()
        cols = (cols + batch.shift[:, 1:]).abs()
        cols = w - 1 - (w - 1 - cols).abs()
    if batch.flip is not None:
        cols = torch.where(batch.flip[:, None], cols.flip(1), cols)
    place = (batch.order[:, None, None] * h + rows[:, :, None]) * w + cols[:, None, :]  # (B, H, W)
    return x.reshape(-1, x.shape[3]).index_select(0, place.flatten()).view(*place.shape, -1)


def normalize(x: Tensor, mean: Tensor, std: Tensor, dtype, channels_last: bool = True) -> Tensor:
    """Bytes (B, H, W, C) to numbers (B, C, H, W) of mean 0 and deviation 1 a channel."""
    x = ((x.to(torch.float32) - mean * 255) / (std * 255)).to(dtype).permute(0, 3, 1, 2)
    return x if channels_last else x.contiguous()


def resize(x: Tensor, side: int) -> Tensor:
    """The whole pictures (B, C, H, W) at `side` × `side`, each new pixel between its four nearest.

    Small pictures say nearly as much, for less: work grows with their area. Source: Howard et al.
    2018, fast.ai's DAWNBench entry, "progressive resizing".
    """
    x = torch.nn.functional.interpolate(x.float(), size=(side, side), mode="bilinear").to(x.dtype)
    return x.contiguous(memory_format=torch.channels_last)


def blank(x: Tensor, hole: Tensor, side: int) -> Tensor:
    """Set a square of `side` around each hole to 0, the mean. x (B, C, H, W).

    Source: DeVries and Taylor 2017, "Improved regularization … with cutout".
    """
    near = [
        ((torch.arange(n, device=x.device)[None] - c[:, None] + side // 2) // side) == 0
        for n, c in zip(x.shape[2:], hole.T)
    ]
    return x.masked_fill((near[0][:, :, None] & near[1][:, None, :])[:, None], 0)
