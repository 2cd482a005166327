"""BatchNorm over the whole batch, of which each process has some images."""

import torch
from torch import Tensor
from torch.nn.functional import batch_norm

from nets.common.errors import BatchError
from nets.distributed.world import all_gather
from nets.layers.base import check_images, sum_dtype
from nets.layers.containers import Net
from nets.layers.norm import BatchNorm2d
from nets.training.world import World


class SyncBatchNorm2d(BatchNorm2d):
    """As BatchNorm2d, with mean and variance over all m = Σ_r m_r values of a channel on all ranks.

    Forward: rank r has m_r values with mean μ_r and sum of squares M_r = Σ(x − μ_r)² around it. As
    Σ_r Σ(x − μ)² = Σ_r (M_r + m_r·(μ_r − μ)²), the mixed terms being 0,

        μ = Σ_r m_r·μ_r/m        σ² = Σ_r (M_r + m_r·(μ_r − μ)²)/m

    Unlike E x² − μ², this loses no digits where the mean is large.

    Backward: L is the sum of what the ranks' own losses add to it. Every x̂ depends on every x of its
    channel, on whichever rank, so in dx = γ·r·(dy − Σdy/m − x̂·Σdy·x̂/m) both sums go over all ranks.
    dβ = Σdy and dγ = Σdy·x̂ stay this rank's, like all of its gradients, and are summed with them.

    Its params and buffers are the very tensors of the norm that it replaces.
    Source: norm.py; Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for
    computing sample variances".
    """

    # saved begins as BatchNorm2d's does
    output, drop_input, add_input = BatchNorm2d.output, BatchNorm2d.drop_input, BatchNorm2d.add_input

    def __init__(self, norm: BatchNorm2d, world: World):
        self.num_features, self.eps, self.momentum, self.affine = (
            norm.num_features,
            norm.eps,
            norm.momentum,
            norm.affine,
        )
        self.params, self.buffers, self.training = norm.params, norm.buffers, norm.training
        self.world = world

    def check(self, x: Tensor):
        check_images(self, x)
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] * self.world.size <= 1:
            raise BatchError("BatchNorm2d in training needs a value a channel on each process, two in sum")

    def forward(self, x: Tensor):
        if not self.training:
            y, (x, mean, rstd, _) = super().forward(x)
            return y, (x, mean, rstd, None)
        self.check(x)
        mean, var, m = self._moments(x)
        new = mean, var * (m / (m - 1))
        for average, value in zip((self.buffers["running_mean"], self.buffers["running_var"]), new):
            average.mul_(1 - self.momentum).add_(value * self.momentum)
        saved = x, mean, torch.rsqrt(var + self.eps), m
        gamma, beta = self.params.get("weight"), self.params.get("bias")
        return batch_norm(x, mean, var, gamma, beta, eps=self.eps), saved

    def _moments(self, x: Tensor):
        """Mean (C), variance (C) and count () over all ranks."""
        var, mean = torch.var_mean(x.to(sum_dtype(x)), (0, 2, 3), correction=0)
        m = mean.new_full((1,), x.numel() // x.shape[1])
        own = torch.cat([m, mean, var * m])
        every = own[None]
        if self.world.size > 1:
            every = own.new_empty(self.world.size, len(own))
            all_gather(every, own[None])
        counts, means, squares = every[:, :1], *every[:, 1:].split(len(mean), 1)
        m = counts.sum()
        mean = (counts * means).sum(0) / m
        return mean, (squares + counts * (means - mean) ** 2).sum(0) / m, m

    def backward(self, saved, dy: Tensor):
        x, mean, rstd, m = saved
        if m is None:
            return super().backward((x, mean, rstd, False), dy)

        def wide(channel):  # (C) -> (1, C, 1, 1)
            return channel[None, :, None, None]

        gamma = self.params.get("weight")
        centered = x.to(sum_dtype(x)) - wide(mean)  # x − μ
        dyf = dy.to(sum_dtype(dy))
        dbeta = dyf.sum((0, 2, 3))
        dgamma = (dyf * centered).sum((0, 2, 3)) * rstd
        all_dbeta, all_dgamma = self.world.sum(torch.stack([dbeta, dgamma]))
        scale = rstd if gamma is None else gamma * rstd
        # dx = a·dy + b·(x − μ) + c, with a, b, c one number a channel
        a, b, c = scale, -scale * rstd * all_dgamma / m, -scale * all_dbeta / m
        dx = centered.mul_(wide(b)).addcmul_(dyf, wide(a)).add_(wide(c)).to(dy.dtype)
        if gamma is None:
            return dx, {}
        return dx, {"weight": dgamma.to(gamma.dtype), "bias": dbeta.to(gamma.dtype)}


def synchronize(net, world: World):
    """Replace every BatchNorm2d of a net by a SyncBatchNorm2d. Names and tensors stay the same.

    Call it before nets.kernels.lower, whose forms leave these norms as they are.
    """
    new = {}
    for layer in net.walk():
        if not isinstance(layer, Net):
            continue
        for name, child in layer.children.items():
            if type(child) is BatchNorm2d:
                layer.children[name] = new.setdefault(id(child), SyncBatchNorm2d(child, world))
    return net
