"""Views: a picture looked at more than once, mirrored and shifted, and the answers averaged.

One look tells how certain the net is. Where it is certain more looks change nothing, so only the
pictures of which it is least certain get them.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from nets.data.ten_crop import center, ten_crop
from nets.layers.base import sum_dtype


def _mirrored(x: Tensor) -> list[tuple[float, Tensor]]:
    return [(0.5, x), (0.5, x.flip(3))]


def _moved(x: Tensor, middle: float, corners) -> list[tuple[float, Tensor]]:
    """x for `middle`, and for the rest moved by a pixel towards corners; each mirrored too."""
    wide = pad(x.float(), (1, 1, 1, 1), "reflect").to(x.dtype)
    h, w = x.shape[2:]
    parts = [wide[:, :, 1 - i : 1 - i + h, 1 - j : 1 - j + w] for i, j in corners]
    parts = [(middle, x), *(((1 - middle) / len(parts), part) for part in parts)]
    return [(a * b, view) for a, part in parts for b, view in _mirrored(part)]


def _six(x: Tensor) -> list[tuple[float, Tensor]]:
    return _moved(x, 0.5, [(1, 1), (-1, -1)])


def _corners(x: Tensor) -> list[tuple[float, Tensor]]:
    return _moved(x, 0.4, [(1, 1), (-1, -1), (1, -1), (-1, 1)])


# name -> the views of pictures (B, C, H, W), each with its weight
# Source of "six_view": Jordan 2024, airbench94
VIEWS = {"none": lambda x: [(1.0, x)], "flip": _mirrored, "six_view": _six, "corners": _corners}
NAMES = (*VIEWS, "ten_crop")  # see ten_crop.py


def look(net, x: Tensor, views: str, side: int = 0) -> Tensor:
    """The net's output (B, K), at least float32, averaged over the views of x (B, C, H, W).

    side: what the net sees of a larger picture, its center unless the views are "ten_crop".
    """
    like = torch.channels_last if x.stride(1) == 1 else torch.contiguous_format

    def ask(view: Tensor) -> Tensor:
        z = net.forward(view.contiguous(memory_format=like))[0]
        return z.to(sum_dtype(z))

    if views == "ten_crop":  # the log of their mean softmax
        z = torch.stack([ask(view) for view in ten_crop(x, side or min(x.shape[2:]))])
        return z.log_softmax(-1).logsumexp(0) - math.log(len(z))
    x = center(x, side) if side else x
    return sum(weight * ask(view) for weight, view in VIEWS[views](x))


def doubtful(z: Tensor, share: float) -> Tensor:
    """Which rows of z (N, K) have the two best classes closest together: `share` of them, in order."""
    best = z.softmax(1).topk(min(2, z.shape[1]), dim=1).values
    margin = best[:, 0] - best[:, -1]
    return margin.argsort(stable=True)[: round(share * len(z))].sort().values
