"""LocalResponseNorm: every channel damped by how loud its neighbour channels are at the same place."""

import torch
from torch import Tensor, nn

from nets.common.errors import BatchError
from nets.layers.base import Layer, SavesInput, blocks, sum_dtype
from nets.layers.registry import register


class LocalResponseNormModule(nn.LocalResponseNorm):
    """nn.LocalResponseNorm in float32 at least: it has no bfloat16 on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(sum_dtype(x))).to(x.dtype)


@register
class LocalResponseNorm(SavesInput, Layer):
    """y_i = x_i·d_i^−β with d_i = k + (α/n)·Σ_j x_j², over the n channels j of i's window W(i).

    x is (N, C, …), and all of it is at one place of one picture; W(i) runs from i − ⌊n/2⌋ to
    i + ⌊(n−1)/2⌋, and channels beyond the first and the last count as zeros. α is divided by n as
    torch.nn.functional.local_response_norm does it; the paper's own α is not, so its 10⁻⁴ with
    n = 5 is alpha = 5·10⁻⁴ here.

    x_i is in y_i itself, and in the d_j of every window W(j) that it stands in:

        ∂y_j/∂x_i = [i = j]·d_j^−β − β·x_j·d_j^(−β−1)·∂d_j/∂x_i,   ∂d_j/∂x_i = (2α/n)·x_i·[i ∈ W(j)],

        dx_i = dy_i·d_i^−β − (2αβ/n)·x_i·Σ_{j: i ∈ W(j)} dy_j·x_j·d_j^(−β−1).

    The last sum is over a window too, turned round: j from i − ⌊(n−1)/2⌋ to i + ⌊n/2⌋. Saved is x
    alone; d is made again, a few samples at a time.
    Source: Krizhevsky, Sutskever and Hinton 2012, "ImageNet classification with deep
    convolutional neural networks", 3.3.
    """

    takes_pictures = True
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
            out.copy_(self._loudness(xs).pow_(-self.beta).mul_(xs))
        return y, x

    def backward(self, saved, dy: Tensor):
        dx = torch.empty_like(dy)
        for xs, g, out in blocks(saved, dy, dx):
            xs = xs.to(sum_dtype(dy))  # and g with it, where they meet
            d = self._loudness(xs)
            damped = d.pow(-self.beta)
            through = _window_sum((g * xs).mul_(damped).div_(d), self.above, self.below)
            through.mul_(xs).mul_(-2 * self.alpha * self.beta / self.size)
            out.copy_(through.addcmul_(g, damped))
        return dx, {}

    def to_torch(self, **_):
        return LocalResponseNormModule(self.size, self.alpha, self.beta, self.k)

    @classmethod
    def from_torch(cls, module):
        return cls(module.size, module.alpha, module.beta, module.k)

    def _loudness(self, x: Tensor) -> Tensor:
        """d, of x's shape."""
        return _window_sum(x * x, self.below, self.above).mul_(self.alpha / self.size).add_(self.k)


def _window_sum(t: Tensor, below: int, above: int) -> Tensor:
    """Each channel's sum with the `below` channels before it and the `above` after it."""
    total, furthest = t.clone(), t.shape[1] - 1
    for shift in range(1, min(below, furthest) + 1):
        total[:, shift:] += t[:, :-shift]
    for shift in range(1, min(above, furthest) + 1):
        total[:, :-shift] += t[:, shift:]
    return total
