"""Test-time augmentation (TTA): the net's outputs averaged over several views of an image.

The views are mirrored and shifted copies. Views can be limited to the images for which the net's
first output is least certain, as they rarely change the others.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from nets.layers.base import sum_dtype

Views = list[tuple[float, Tensor]]  # (weight, view) pairs; the weights sum to 1


def center_crop(x: Tensor, size: int) -> Tensor:
    """The middle (B, C, size, size) of x (B, C, H, W)."""
    top, left = (x.shape[2] - size) // 2, (x.shape[3] - size) // 2
    return x[:, :, top : top + size, left : left + size]


def ten_crop(x: Tensor, size: int) -> list[Tensor]:
    """Ten (B, C, size, size) parts of x (B, C, H, W): four corners and the center, then the same mirrored.

    Source: Krizhevsky, Sutskever and Hinton 2012, section 4.1.
    """
    down, right = x.shape[2] - size, x.shape[3] - size
    corners = [x[:, :, i : i + size, j : j + size] for i in (0, down) for j in (0, right)]
    crops = [*corners, center_crop(x, size)]
    return crops + [crop.flip(3) for crop in crops]


def _flip(x: Tensor) -> Views:
    return [(0.5, x), (0.5, x.flip(3))]


def _shifted(x: Tensor, center_weight: float, shifts: Sequence[tuple[int, int]]) -> Views:
    """x, and x shifted by a pixel down and right by each of shifts; each of them also mirrored.

    The unshifted views have center_weight together; the others share the rest equally.
    """
    wide = pad(x.float(), (1, 1, 1, 1), "reflect").to(x.dtype)
    h, w = x.shape[2:]
    moved = [wide[:, :, 1 - i : 1 - i + h, 1 - j : 1 - j + w] for i, j in shifts]
    parts = [(center_weight, x), *(((1 - center_weight) / len(moved), part) for part in moved)]
    return [(a * b, view) for a, part in parts for b, view in _flip(part)]


def _six_view(x: Tensor) -> Views:
    return _shifted(x, 0.5, [(1, 1), (-1, -1)])


def _corners(x: Tensor) -> Views:
    return _shifted(x, 0.4, [(1, 1), (-1, -1), (1, -1), (-1, 1)])


# name → the views of x (B, C, H, W). Source of "six_view": Jordan 2024, airbench94
TTA: dict[str, Callable[[Tensor], Views]] = {
    "none": lambda x: [(1.0, x)],
    "flip": _flip,
    "six_view": _six_view,
    "corners": _corners,
}
TTA_NAMES = (*TTA, "ten_crop")  # ten_crop averages in another way: see predict_tta


def predict_tta(net, x: Tensor, tta: str, crop_size: int = 0) -> Tensor:
    """The net's output (B, K), at least float32, averaged over the views of x (B, C, H, W).

    tta: one of TTA_NAMES. "ten_crop" gives the logarithm of the mean softmax; the others give the
    weighted mean of the outputs.
    crop_size: of the net's input, where x is larger; 0 for all of x. Only "ten_crop" looks beyond
    the center.
    """
    memory_format = torch.channels_last if x.stride(1) == 1 else torch.contiguous_format

    def predict(view: Tensor) -> Tensor:
        z = net.forward(view.contiguous(memory_format=memory_format))[0]
        return z.to(sum_dtype(z))

    if tta == "ten_crop":
        z = torch.stack([predict(view) for view in ten_crop(x, crop_size or min(x.shape[2:]))])
        return z.log_softmax(-1).logsumexp(0) - math.log(len(z))
    x = center_crop(x, crop_size) if crop_size else x
    return sum((weight * predict(view) for weight, view in TTA[tta](x)), start=torch.zeros(()))


def least_certain(z: Tensor, fraction: float) -> Tensor:
    """Ascending indices of the `fraction` of rows of z (N, K) whose two best classes are closest.

    Closeness is the difference of the two largest softmax probabilities.
    """
    best = z.softmax(1).topk(min(2, z.shape[1]), dim=1).values
    margin = best[:, 0] - best[:, -1]
    return margin.argsort(stable=True)[: round(fraction * len(z))].sort().values
