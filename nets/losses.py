"""Losses: how wrong (or how good) is the output z, and which way should it move?

loss(z, target) returns the number and its gradient dz together. A target is a class index (N),
int64, or, for `Performance` and `MSELoss`, the wanted output itself (N, K). `torch_loss` is the
same number in torch.nn.functional, for the checker and the bench.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.functional import log_softmax, one_hot

from nets.common.errors import BatchError
from nets.layers.base import sum_dtype

REDUCTIONS = ("mean", "sum")


def check_reduction(reduction: str) -> str:
    """Is the loss of a batch the mean of its parts, or their sum?"""
    if reduction not in REDUCTIONS:
        raise ValueError(f'reduction is "mean" or "sum", not "{reduction}"')
    return reduction


class Loss:
    """Base of the losses.

    maximize   True: the number is a performance, to be climbed
    reduction  "mean" or "sum" over the batch
    """

    maximize: ClassVar[bool] = False
    reduction: str = "sum"

    def __call__(self, z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} has no formula")

    def torch_loss(self, z: Tensor, target: Tensor) -> Tensor:
        """The number alone, for autograd: by default that of the formula itself."""
        return self(z, target)[0]


def wanted(z: Tensor, target: Tensor) -> Tensor:
    """The wanted output d, shaped as z, to add up in: a class is a 1 at its place among zeros."""
    if target.dtype == torch.int64 and target.dim() == z.dim() - 1:
        target = one_hot(target, z.shape[-1])
    if target.shape != z.shape:
        shapes = f"{tuple(target.shape)} for {tuple(z.shape)}"
        raise BatchError(f"a target is shaped as the output, or is a class a sample, int64, not {shapes}")
    return target.to(sum_dtype(z))


class CrossEntropyLoss(Loss):
    """L = −Σ_k q_k log p_k, with p = softmax(z) and q = (1 − ε)·onehot(target) + ε/K.

    log p_k = z_k − log Σ_j e^z_j, so dlog p_k/dz_j = [k = j] − p_j, and as Σ q = 1

        dL/dz = p − q, divided by N where the mean over pictures is taken.

    Source: Szegedy et al. 2015, "Rethinking the Inception architecture", for ε.
    """

    def __init__(self, label_smoothing: float = 0.0, reduction: str = "mean"):
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing lies between 0 and 1, not at {label_smoothing}")
        self.label_smoothing, self.reduction = label_smoothing, check_reduction(reduction)

    def __call__(self, z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """z: logits (N, K), target: (N) int64. Returns loss () and dz (N, K)."""
        if z.dim() != 2 or target.shape != z.shape[:1] or target.dtype != torch.int64:
            shapes = f"{tuple(z.shape)} and {tuple(target.shape)} of {target.dtype}"
            raise BatchError(f"CrossEntropyLoss takes logits (N, K) and classes (N) of int64, not {shapes}")
        logits = z.to(sum_dtype(z))
        log_p = log_softmax(logits, 1)
        classes = z.shape[1]
        q = one_hot(target, classes).to(log_p.dtype)
        q = q * (1 - self.label_smoothing) + self.label_smoothing / classes
        # where q is 0 the term is 0, also if log p is −∞
        loss, dz = -torch.where(q > 0, q * log_p, 0).sum(), logits.softmax(1) - q
        if self.reduction == "mean":
            loss, dz = loss / len(z), dz / len(z)
        return loss, dz.to(z.dtype)

    def torch_loss(self, z, target):
        z = z.to(sum_dtype(z))
        return F.cross_entropy(z, target, label_smoothing=self.label_smoothing, reduction=self.reduction)


class Performance(Loss):
    """P = −½‖d − z‖², the lecture's measure: 0 at best, to be climbed, hence `maximize`.

    The square makes the derivative smooth and simple, the half takes its 2 away, and the
    minus turns the hill the right way up: dP/dz = d − z. Summed over the batch.
    Source: MIT 6.034, lecture 12a, "Neural nets".
    """

    maximize = True

    def __call__(self, z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """z: (N, K); target: wanted outputs (N, K), or classes (N). Returns P () and dz (N, K)."""
        dz = wanted(z, target) - z
        return -0.5 * (dz * dz).sum(), dz.to(z.dtype)

    def torch_loss(self, z, target):
        return -0.5 * F.mse_loss(z, _as_output(z, target), reduction="sum")


class MSELoss(Loss):
    """L = Σ_k (z_k − d_k)², over the whole batch: dL/dz = 2(z − d).

    Both are divided by the number of outputs, N·K, where the mean is taken.
    """

    def __init__(self, reduction: str = "mean"):
        self.reduction = check_reduction(reduction)

    def __call__(self, z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """z: of any shape; target: wanted outputs of z's shape, or classes. Returns L () and dz."""
        gap = z - wanted(z, target)
        loss, dz = (gap * gap).sum(), 2 * gap
        if self.reduction == "mean":
            loss, dz = loss / z.numel(), dz / z.numel()
        return loss, dz.to(z.dtype)

    def torch_loss(self, z, target):
        return F.mse_loss(z, _as_output(z, target), reduction=self.reduction)


def _as_output(z: Tensor, target: Tensor) -> Tensor:
    """The wanted output in z's type, one-hot where the target is a class."""
    return (target if target.shape == z.shape else one_hot(target, z.shape[-1])).to(z.dtype)
