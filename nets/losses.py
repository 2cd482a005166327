"""Losses: a number that measures the output z against a target, and its gradient.

loss(z, target) returns both: the loss () and dz, with the shape and dtype of z. A target is a class index
per sample, (N) int64, or, for `Performance` and `MSELoss`, the desired output itself, (N, K). `torch_loss`
computes the same loss with torch.nn.functional, for gradcheck and the benchmarks.
"""

import functools
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.functional import log_softmax

from nets.common.errors import BatchError
from nets.common.ranges import check_range
from nets.layers.base import sum_dtype
from nets.layers.checks import check_floats

REDUCTIONS = ("mean", "sum")
SMOOTHING = {"least": 0, "most": 1}  # the range of label_smoothing


class Loss:
    """Base class of the losses.

    maximize   True: the number is a performance, which training maximizes
    reduction  "mean" or "sum" over the batch

    As for layers, z must be floating-point: see layers/checks.py.
    """

    maximize: ClassVar[bool] = False
    reduction: str = "sum"

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "__call__" in vars(cls):
            formula = cls.__call__

            @functools.wraps(formula)
            def call(self, z: Tensor, target: Tensor):
                check_floats(self, z)
                return formula(self, z, target)

            cls.__call__ = call

    def __call__(self, z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, dz). BatchError if the target doesn't fit z."""
        raise NotImplementedError(f"{type(self).__name__} has no formula")

    def torch_loss(self, z: Tensor, target: Tensor) -> Tensor:
        """The loss () as autograd can differentiate it. By default, it comes from the formula itself."""
        return self(z, target)[0]


def desired_output(z: Tensor, target: Tensor) -> Tensor:
    """The desired output d, with the shape of z, in at least float32. Classes (N) become one-hot rows.

    BatchError if the target is neither of z's shape nor a class per sample.
    """
    if target.shape == z.shape:
        return target.to(sum_dtype(z))
    if target.dtype != torch.int64 or target.shape != z.shape[:-1]:
        shapes = f"{tuple(target.shape)} for {tuple(z.shape)}"
        raise BatchError(f"a target is shaped as the output, or is a class per sample, int64, not {shapes}")
    if z.shape[-1] == 1:
        shapes = f"outputs {tuple(z.shape)} and a target {tuple(target.shape)} of {target.dtype}"
        raise BatchError(f"one output is no class; give the target the output's shape, not {shapes}")
    d = torch.zeros_like(z, dtype=sum_dtype(z))
    return at_classes(target, z, lambda index: d.scatter_(-1, index, 1.0))


def at_classes(target: Tensor, z: Tensor, take: Callable[[Tensor], Tensor]) -> Tensor:
    """take(index), with the classes (…) as an index (…, 1) into the last axis of z (…, K).

    BatchError if a class isn't in 0 to K − 1. Torch finds that while it indexes: on a CPU it raises. On
    CUDA it ends the process later, because the check would have to wait for the device.
    """
    try:
        return take(target.unsqueeze(-1))
    except (RuntimeError, IndexError):
        k = z.shape[-1]
        wrong = target[(target < 0) | (target >= k)]
        if not len(wrong):
            raise
        raise BatchError(f"classes are 0 to {k - 1} for {k} outputs, not {int(wrong[0])}") from None


class CrossEntropyLoss(Loss):
    """L = −Σ_k q_k log p_k, with p = softmax(z) and q = (1 − ε)·onehot(target) + ε/K.

    log p_k = z_k − log Σ_j e^z_j, so dlog p_k/dz_j = [k = j] − p_j, and as Σ q = 1

        dL/dz = p − q. With reduction "mean", loss and gradient are divided by N.

    ε is label_smoothing, K the number of classes. ValueError unless 0 ≤ ε ≤ 1.
    Source: Szegedy et al. 2015, "Rethinking the Inception architecture", for ε.
    """

    def __init__(self, label_smoothing: float = 0.0, reduction: str = "mean"):
        check_range(label_smoothing, "label_smoothing", **SMOOTHING)
        check_range(reduction, "reduction", among=REDUCTIONS)
        self.label_smoothing, self.reduction = label_smoothing, reduction

    def __call__(self, z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """z: logits (N, K); target: classes (N) int64. Returns the loss () and dz (N, K)."""
        if z.dim() != 2 or target.shape != z.shape[:1] or target.dtype != torch.int64:
            shapes = f"{tuple(z.shape)} and {tuple(target.shape)} of {target.dtype}"
            raise BatchError(f"CrossEntropyLoss takes logits (N, K) and classes (N) of int64, not {shapes}")
        logits = z.to(sum_dtype(z))
        hard, soft = 1 - self.label_smoothing, self.label_smoothing / z.shape[1]
        log_p = log_softmax(logits, 1)
        log_p_target = at_classes(target, z, lambda index: log_p.gather(1, index))
        # −Σ_k q_k log p_k, without the terms of q = 0, where log p may be −∞
        loss = log_p_target.sum() * -hard if hard else log_p.sum() * -soft
        if hard and soft:
            loss = loss - soft * log_p.sum()
        dz = logits.softmax(1)
        dz = (dz - soft if soft else dz).scatter_(1, target[:, None], -hard, reduce="add")
        if self.reduction == "mean":
            loss, dz = loss / len(z), dz / len(z)
        return loss, dz.to(z.dtype)

    def torch_loss(self, z, target):
        z = z.to(sum_dtype(z))
        return F.cross_entropy(z, target, label_smoothing=self.label_smoothing, reduction=self.reduction)


class Performance(Loss):
    """P = −½‖d − z‖², summed over the batch. The maximum is 0, and training maximizes P (`maximize`).

    The square makes the derivative simple, the factor ½ cancels its 2, and the minus sign makes
    a better output a larger P: dP/dz = d − z, where d is the desired output.
    Source: MIT 6.034, lecture 12a, "Neural nets".
    """

    maximize = True

    def __call__(self, z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """z: (N, K); target: desired outputs (N, K), or classes (N). Returns P () and dz (N, K)."""
        dz = desired_output(z, target) - z
        return -0.5 * (dz * dz).sum(), dz.to(z.dtype)

    def torch_loss(self, z, target):
        return -0.5 * F.mse_loss(z, _as_output(z, target), reduction="sum")


class MSELoss(Loss):
    """L = Σ (z − d)² over the outputs of the whole batch, with the desired output d: dL/dz = 2(z − d).

    With reduction "mean", loss and gradient are divided by the number of outputs, N·K.
    """

    def __init__(self, reduction: str = "mean"):
        check_range(reduction, "reduction", among=REDUCTIONS)
        self.reduction = reduction

    def __call__(self, z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """z: any shape; target: desired outputs of z's shape, or classes (N). Returns L () and dz."""
        error = z - desired_output(z, target)
        loss, dz = (error * error).sum(), 2 * error
        if self.reduction == "mean":
            loss, dz = loss / z.numel(), dz / z.numel()
        return loss, dz.to(z.dtype)

    def torch_loss(self, z, target):
        return F.mse_loss(z, _as_output(z, target), reduction=self.reduction)


def _as_output(z: Tensor, target: Tensor) -> Tensor:
    """The desired output in the dtype of z. Classes become one-hot rows."""
    return (target if target.shape == z.shape else F.one_hot(target, z.shape[-1])).to(z.dtype)
