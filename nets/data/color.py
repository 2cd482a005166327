"""Color jitter: a little more or less light, of the colors in which pictures differ most."""

import torch
from torch import Tensor


def axes(x: Tensor, most: int = 2000) -> Tensor:
    """The main axes of the pixels of x (N, H, W, 3), bytes: (3, 3), one a column, on a scale of 0 to 1.

    They are the eigenvectors of the three channels' covariance, each as long as the pixels'
    deviation along it, √λ. Reckoned from `most` pictures at most, spread evenly over x.
    """
    total, outer, count = 0.0, 0.0, 0
    for picture in x[:: max(1, -(-len(x) // most))]:
        p = picture.reshape(-1, 3).to(torch.float32) / 255
        total = total + p.sum(0, dtype=torch.float64)
        outer = outer + (p.T @ p).double()
        count += len(p)
    mean = total / count
    variance, directions = torch.linalg.eigh(outer / count - torch.outer(mean, mean))
    return (directions * variance.clamp(min=0).sqrt()).float()


def jitter(x: Tensor, draws: Tensor, axes: Tensor, std: Tensor) -> Tensor:
    """x (B, 3, H, W), normalized by std, with Σ_i draws_bi·√λ_i·p_i added to every pixel of picture b.

    draws (B, 3) have a deviation of 0.1 in the paper, which multiplies λ where √λ stands here: a
    deviation is in the pixels' own units, and λ isn't.
    Source: Krizhevsky, Sutskever and Hinton 2012, 4.1.
    """
    light = (draws @ axes.T) / std  # (B, 3)
    return x + light.to(x.dtype)[:, :, None, None]
