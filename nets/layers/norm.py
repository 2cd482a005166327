"""BatchNorm: each channel gets mean 0 and variance 1 over the batch, then a scale and a shift."""

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from nets.common.errors import BatchError, Unsupported
from nets.layers.base import Layer, SavesInputFirst, check_images, sum_dtype
from nets.layers.checks import check_dy
from nets.layers.registry import register, require


@register
class BatchNorm2d(SavesInputFirst, Layer):
    """x̂ = (x − μ)·r with r = 1/√(σ² + ε), y = γ·x̂ + β, for each channel of x (N, C, H, W).

    In training μ and σ² = Σ(x − μ)²/m are computed from the batch's m = N·H·W values of a channel, so
    they depend on x. In evaluation they are the running averages, which are constants:

        dβ = Σ dy        dγ = Σ dy·x̂        in both modes
        evaluation:  dx = γ·r·dy
        training:    dx = γ·r·(dy − dβ/m − x̂·dγ/m)

    Derivation of the last line: dμ/dx = 1/m and dσ²/dx = 2(x − μ)/m give
    dx̂_k/dx_i = r·(δ_ki − 1/m − x̂_k·x̂_i/m). dx_i is the sum over k of this times γ·dy_k.

    saved holds x, μ, r and the mode. x̂ isn't saved, because it is cheap to compute.
    In training, forward updates the buffers: running ← (1 − momentum)·running + momentum·new, where the
    new variance is the unbiased one, σ²·m/(m−1). No other layer's forward writes to its layer.
    ValueError unless eps > 0 and 0 ≤ momentum ≤ 1.
    Source: Ioffe and Szegedy 2015, "Batch normalization".
    """

    takes_images = True
    inferred = {"num_features": 1}
    examples = [((3, 4, 7, 8), dict(num_features=4, affine=a)) for a in (True, False)]
    torch_types = (nn.BatchNorm2d,)

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True):
        super().__init__()
        if eps <= 0 or not 0 <= momentum <= 1:
            raise ValueError(f"eps must be over 0 and momentum 0 to 1, not {eps} and {momentum}")
        self.num_features, self.eps, self.momentum, self.affine = num_features, eps, momentum, affine
        if affine:
            self.params["weight"] = torch.ones(num_features)
            self.params["bias"] = torch.zeros(num_features)
        self.buffers["running_mean"] = torch.zeros(num_features)
        self.buffers["running_var"] = torch.ones(num_features)

    def check(self, x: Tensor):
        """BatchError unless x is images of these channels with, in training, at least two values each."""
        check_images(self, x)
        if x.shape[1] != self.num_features:
            raise BatchError(
                f"BatchNorm2d({self.num_features}) takes {self.num_features} channels, not {x.shape[1]}"
            )
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] <= 1:
            raise BatchError("BatchNorm2d in training needs more than one value a channel in a batch")

    def forward(self, x: Tensor):
        self.check(x)
        gamma, beta = self.params.get("weight"), self.params.get("bias")
        mean, var = self.buffers["running_mean"], self.buffers["running_var"]
        y, batch_mean, rstd = torch.native_batch_norm(
            x, gamma, beta, mean, var, self.training, self.momentum, self.eps
        )
        if self.training:
            return y, (x, batch_mean, rstd, True)
        return y, (x, mean.clone(), torch.rsqrt(var + self.eps), False)

    def statistics(self, x: Tensor, moments):
        """Mean and variance, each (C), to normalize x with.

        In training these are the batch's, and the running averages are updated. In evaluation these are
        the running averages. moments: function of x that returns the mean and variance of its channels.
        For kernels that compute the rest of forward themselves.
        """
        self.check(x)
        mean, var = self.buffers["running_mean"], self.buffers["running_var"]
        if not self.training:
            return mean.clone(), var.clone()
        of_batch, m = moments(x), x.numel() // x.shape[1]
        for average, new in zip((mean, var), (of_batch[0], of_batch[1] * (m / (m - 1)))):
            average.mul_(1 - self.momentum).add_(new * self.momentum)
        return of_batch

    def output(self, saved):
        x, mean, rstd, _ = saved
        gamma, beta = self.params.get("weight"), self.params.get("bias")
        return batch_norm(x, mean, rstd**-2 - self.eps, gamma, beta, eps=self.eps)

    def backward(self, saved, dy: Tensor):
        x, mean, rstd, training = saved
        check_dy(self, dy, x.shape)
        gamma = self.params.get("weight")

        def wide(channel):  # (C) -> (1, C, 1, 1)
            return channel[None, :, None, None]

        m = dy.numel() // dy.shape[1]
        centered = x.to(sum_dtype(x)) - wide(mean)  # x − μ
        dyf = dy.to(sum_dtype(dy))
        dbeta = dyf.sum((0, 2, 3))
        dgamma = (dyf * centered).sum((0, 2, 3)) * rstd
        scale = rstd if gamma is None else gamma * rstd
        if training:
            # dx = a·dy + b·(x − μ) + c, where a, b, c are one number per channel
            a, b, c = scale, -scale * rstd * dgamma / m, -scale * dbeta / m
            dx = centered.mul_(wide(b)).addcmul_(dyf, wide(a)).add_(wide(c)).to(dy.dtype)
        else:
            dx = (dyf * wide(scale)).to(dy.dtype)
        if gamma is None:
            return dx, {}
        return dx, {"weight": dgamma.to(gamma.dtype), "bias": dbeta.to(gamma.dtype)}

    def to_torch(self, **_):
        return nn.BatchNorm2d(self.num_features, self.eps, self.momentum, self.affine)

    @classmethod
    def from_torch(cls, module):
        require(module, track_running_stats=True)
        if module.momentum is None:
            raise Unsupported("BatchNorm2d with momentum=None")
        return cls(module.num_features, module.eps, module.momentum, module.affine)
