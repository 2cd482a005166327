"""Views of a picture larger than what the net sees: its centre, or ten whose answers are averaged."""

import math

import torch
from torch import Tensor

VIEWS = ("one", "ten")


def centre(x: Tensor, side: int) -> Tensor:
    """The middle side × side of x (B, C, H, W)."""
    top, left = (x.shape[2] - side) // 2, (x.shape[3] - side) // 2
    return x[:, :, top : top + side, left : left + side]


def ten_crop(x: Tensor, side: int) -> list[Tensor]:
    """The four corners of x (B, C, H, W) and its centre, side × side, then their mirror images.

    Source: Krizhevsky, Sutskever and Hinton 2012, 4.1.
    """
    down, right = x.shape[2] - side, x.shape[3] - side
    corners = [x[:, :, i : i + side, j : j + side] for i in (0, down) for j in (0, right)]
    views = [*corners, centre(x, side)]
    return views + [view.flip(3) for view in views]


def seen(net, x: Tensor, side: int = 0, views: str = "one") -> Tensor:
    """The net's outputs for x; of ten views, log of their mean softmax, in float32 at least."""
    if x.dim() != 4 or (not side and views == "one"):
        return net.forward(x)[0]
    form = torch.channels_last if x.stride(1) == 1 else torch.contiguous_format
    side = side or min(x.shape[2:])
    some = [centre(x, side)] if views == "one" else ten_crop(x, side)
    outputs = [net.forward(view.contiguous(memory_format=form))[0] for view in some]
    if views == "one":
        return outputs[0]
    wide = torch.stack(outputs).to(torch.promote_types(x.dtype, torch.float32))
    return wide.log_softmax(-1).logsumexp(0) - math.log(len(some))
