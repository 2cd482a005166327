"""Data augmentation and normalization of whole batches, on the device.

The random numbers come from an `EpochPlan` (sampler.py); nothing here draws any, but
`random_resized_crop_box`, which a stream's decoder calls for one image.
"""

import math

import numpy as np
import torch
from torch import Tensor

from nets.data.sampler import EpochPlan


def crop_and_flip(x: Tensor, batch: EpochPlan, crop_size: int = 0) -> Tensor:
    """The batch's samples from x (N, H, W, C), shifted and flipped: (B, H, W, C), same dtype.

    A shift has reflected borders: row −r is row r, and row H−1+r is row H−1−r. So a shift and a
    flip are row and column indices, and one gather does both.
    crop_size: if not 0, the result is (B, crop_size, crop_size, C), and a shift is the upper left corner.
    x (N, D), which is no image, is only indexed: (B, D).
    """
    if x.dim() == 2 or (batch.shift is None and batch.flip is None):
        return x[batch.order]
    _, h, w, _ = x.shape
    rows = torch.arange(crop_size or h, device=x.device)[None]  # (1, H)
    cols = torch.arange(crop_size or w, device=x.device)[None]
    if batch.shift is not None:
        rows = (rows + batch.shift[:, :1]).abs()  # (B, H)
        rows = h - 1 - (h - 1 - rows).abs()
        cols = (cols + batch.shift[:, 1:]).abs()
        cols = w - 1 - (w - 1 - cols).abs()
    if batch.flip is not None:
        cols = torch.where(batch.flip[:, None], cols.flip(1), cols)
    index = (batch.order[:, None, None] * h + rows[:, :, None]) * w + cols[:, None, :]  # (B, H, W)
    return x.reshape(-1, x.shape[3]).index_select(0, index.flatten()).view(*index.shape, -1)


def normalize(x: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype, channels_last: bool = True) -> Tensor:
    """(x / 255 − mean) / std: bytes (B, H, W, C) to dtype (B, C, H, W).

    mean, std: (C), on a scale of 0 to 1. channels_last: the result's memory format.
    """
    x = ((x.to(torch.float32) - mean * 255) / (std * 255)).to(dtype).permute(0, 3, 1, 2)
    return x if channels_last else x.contiguous()


def resize(x: Tensor, size: int) -> Tensor:
    """x (B, C, H, W) scaled to (B, C, size, size) by bilinear interpolation, channels last.

    For progressive resizing: early epochs on smaller images cost less, as work grows with the area.
    Source: Howard et al. 2018, fast.ai's DAWNBench entry.
    """
    x = torch.nn.functional.interpolate(x.float(), size=(size, size), mode="bilinear").to(x.dtype)
    return x.contiguous(memory_format=torch.channels_last)


def cutout(x: Tensor, hole: Tensor, size: int) -> Tensor:
    """x (B, C, H, W) with a size × size square set to 0, the mean, around each hole (B, 2).

    The part of a square beyond the border is lost.
    Source: DeVries and Taylor 2017, "Improved regularization … with cutout".
    """
    inside = [
        ((torch.arange(n, device=x.device)[None] - c[:, None] + size // 2) // size) == 0
        for n, c in zip(x.shape[2:], hole.T)
    ]
    return x.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0)


def color_axes(x: Tensor, max_images: int = 2000) -> Tensor:
    """The principal axes of the pixels of x (N, H, W, 3) bytes: (3, 3), an axis per column.

    The axes are the eigenvectors p_i of the channels' covariance on a scale of 0 to 1, each scaled
    to the pixels' standard deviation along it, √λ_i. Computed from every k-th image, so that at
    most max_images are read.
    """
    total = torch.zeros(3, dtype=torch.float64, device=x.device)
    outer, count = torch.zeros(3, 3, dtype=torch.float64, device=x.device), 0
    for image in x[:: max(1, -(-len(x) // max_images))]:
        p = image.reshape(-1, 3).to(torch.float32) / 255
        total = total + p.sum(0, dtype=torch.float64)
        outer = outer + (p.T @ p).double()
        count += len(p)
    mean = total / count
    variance, directions = torch.linalg.eigh(outer / count - torch.outer(mean, mean))
    return (directions * variance.clamp(min=0).sqrt()).float()


def color_jitter(x: Tensor, amounts: Tensor, axes: Tensor, std: Tensor) -> Tensor:
    """x (B, 3, H, W), normalized by std (3), with Σ_i amounts_bi·√λ_i·p_i added to each pixel of image b.

    amounts (B, 3): normal, with a standard deviation of 0.1 in the paper. axes: of `color_axes`.
    The paper multiplies by λ_i. Here it is √λ_i, which is in the units of a pixel; λ_i is not.
    Source: Krizhevsky, Sutskever and Hinton 2012, section 4.1.
    """
    offset = (amounts @ axes.T) / std  # (B, 3)
    return x + offset.to(x.dtype)[:, :, None, None]


def random_resized_crop_box(
    width: int, height: int, min_area: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """A random part of an image: (left, top, right, bottom) in pixels.

    Its area is uniform between min_area and 1 of the image's. Its aspect ratio is log-uniform
    between 3:4 and 4:3. If ten draws do not fit into the image, it is the center.
    Source: Szegedy et al. 2014, "Going deeper with convolutions", as in torchvision's RandomResizedCrop.
    """
    for _ in range(10):
        area = width * height * rng.uniform(min_area, 1)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    w, h = max(1, min(width, height * 4 // 3)), max(1, min(height, width * 4 // 3))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
