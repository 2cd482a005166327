"""LocalResponseNorm: each channel is divided by a power of its neighbor channels' mean square."""

import torch
from torch import Tensor, nn

from nets.common.errors import BatchError
from nets.layers.base import Layer, SavesInput, blocks, sum_dtype
from nets.layers.checks import check_dy
from nets.layers.registry import register


class LocalResponseNormModule(nn.LocalResponseNorm):
    """nn.LocalResponseNorm computed in float32 at least, because it doesn't support bfloat16 on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(sum_dtype(x))).to(x.dtype)


@register
class LocalResponseNorm(SavesInput, Layer):
    """y_i = x_i·d_i^−β with d_i = k + (α/n)·Σ_j x_j², over the n channels j of i's window W(i).

    x and y are (N, C, …); the formula holds for each sample and place. W(i) runs from i − ⌊n/2⌋ to
    i + ⌊(n−1)/2⌋, and channels before the first and after the last count as zeros. α is divided by n,
    as in torch.nn.functional.local_response_norm. The paper's α isn't, so its 10⁻⁴ with
    n = 5 is alpha = 5·10⁻⁴ here.

    x_i occurs in y_i directly, and in the d_j of every window W(j) that contains i:

        ∂y_j/∂x_i = [i = j]·d_j^−β − β·x_j·d_j^(−β−1)·∂d_j/∂x_i,   ∂d_j/∂x_i = (2α/n)·x_i·[i ∈ W(j)],

        dx_i = dy_i·d_i^−β − (2αβ/n)·x_i·Σ_{j: i ∈ W(j)} dy_j·x_j·d_j^(−β−1).

    The last sum is also over a window, with its two sides exchanged: j from i − ⌊(n−1)/2⌋ to i + ⌊n/2⌋.
    saved is x. Backward computes d again, for a block of samples at a time.
    ValueError unless size ≥ 1 and alpha, beta, k ≥ 0.
    Source: Krizhevsky, Sutskever and Hinton 2012, "ImageNet classification with deep
    convolutional neural networks", 3.3.
    """

    takes_images = True
    examples = [((3, 7, 4, 5), dict(size=n, alpha=0.5, k=k)) for n, k in ((5, 2.0), (2, 1.0), (9, 1.0))]
    torch_types = (nn.LocalResponseNorm, LocalResponseNormModule)
    torch_calls = {"local_response_norm": lambda x, *args, **options: nn.LocalResponseNorm(*args, **options)}

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
        super().__init__()
        if type(size) is not int or size < 1:
            raise ValueError(f"size must be a whole number of at least 1, not {size}")
        if min(alpha, beta, k) < 0:
            raise ValueError(f"alpha, beta and k must be at least 0, not {alpha}, {beta} and {k}")
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k
        self.below, self.above = size // 2, (size - 1) // 2

    def forward(self, x: Tensor):
        if x.dim() < 3:
            raise BatchError(f"LocalResponseNorm takes (N, C, …) with places, not {tuple(x.shape)}")
        y = torch.empty_like(x)
        for xs, out in blocks(x, y):
            xs = xs.to(sum_dtype(x))
            out.copy_(self._denominator(xs).pow_(-self.beta).mul_(xs))
        return y, x

    def backward(self, saved, dy: Tensor):
        check_dy(self, dy, saved.shape)
        dx = torch.empty_like(dy)
        for xs, g, out in blocks(saved, dy, dx):
            xs = xs.to(sum_dtype(dy))  # products with g then have this dtype too
            d = self._denominator(xs)
            scale = d.pow(-self.beta)
            if self.alpha * self.beta == 0:  # d or its power is constant; 0·∞ would be NaN
                out.copy_(scale.mul_(g))
                continue
            by_neighbors = _window_sum((g * xs).mul_(scale).div_(d), self.above, self.below)
            by_neighbors.mul_(xs).mul_(-2 * self.alpha * self.beta / self.size)
            out.copy_(by_neighbors.addcmul_(g, scale))
        return dx, {}

    def to_torch(self, **_):
        return LocalResponseNormModule(self.size, self.alpha, self.beta, self.k)

    @classmethod
    def from_torch(cls, module):
        return cls(module.size, module.alpha, module.beta, module.k)

    def _denominator(self, x: Tensor) -> Tensor:
        """d, with the shape of x."""
        if self.alpha == 0:  # 0·∞ would be NaN
            return torch.full_like(x, self.k)
        return _window_sum(x * x, self.below, self.above).mul_(self.alpha / self.size).add_(self.k)


def _window_sum(t: Tensor, below: int, above: int) -> Tensor:
    """Each channel of t (N, C, …) plus the `below` channels before it and the `above` channels after it."""
    total, largest_shift = t.clone(), t.shape[1] - 1
    for shift in range(1, min(below, largest_shift) + 1):
        total[:, shift:] += t[:, :-shift]
    for shift in range(1, min(above, largest_shift) + 1):
        total[:, :-shift] += t[:, shift:]
    return total
