"""Whitening: a first layer whose filters aren't trained but computed from statistics of the images."""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from nets.layers.base import Layer
from nets.layers.checks import check_dy
from nets.layers.conv import Conv2dModule, bias_gradient
from nets.layers.registry import register
from nets.layers.windows import IntOrPair, Windows


@register
class Whiten2d(Layer):
    """A k × k convolution whose filters make the patches of images uncorrelated, with variance 1.

    Shapes: x (N, C, H, W), W (2·C·k², C, k, k), b (2·C·k²), y (N, 2·C·k², H − k + 1, W − k + 1).
    Neighboring pixels are strongly correlated, so without whitening the gradient of a first layer
    depends mostly on brightness. If Σ = Σ_i λ_i v_i v_iᵀ is the covariance of the patches, the filters
    are ±v_i / √(λ_i + ε). Each of the C·k² directions has both signs, because the activation that
    follows passes mainly one sign. The filters are fixed. Only the bias is trained, so saved is x's shape:

        y = W ∗ x + b        dx = the adjoint, a transposed convolution        db = Σ dy

    ValueError unless eps > 0.
    Source: Coates and Ng 2012; Page 2018, "How to train your ResNet 8"; Jordan 2024, airbench94.
    """

    takes_images = True
    inferred = {"in_channels": 1}
    examples = [((3, 4, 7, 8), dict(in_channels=4))]

    def __init__(self, in_channels: int, kernel_size: IntOrPair = 2, eps: float = 5e-4):
        super().__init__()
        if eps <= 0:
            raise ValueError(f"eps must be over 0, not {eps}")
        self.in_channels, self.eps = in_channels, eps
        self.windows = Windows.of(kernel_size, 1, 0)
        self.buffers["weight"] = self._copies()  # until `fit` is called
        self.params["bias"] = torch.zeros(len(self.buffers["weight"]))

    def _copies(self) -> Tensor:
        """The filters that copy a patch, with both signs."""
        directions = self.in_channels * self.windows.size[0] * self.windows.size[1]
        identity = torch.zeros(directions, directions).fill_diagonal_(1)
        identity = identity.reshape(directions, self.in_channels, *self.windows.size)
        return torch.cat([identity, -identity])

    def is_fitted(self) -> bool:
        """Whether `fit` was called, or fitted filters were loaded."""
        weight = self.buffers["weight"]
        return not torch.equal(weight, self._copies().to(weight))

    def fit(self, x: Tensor):
        """Set the filters from images x (N, C, H, W), which must be normalized as in training."""
        self.windows.check(self, x)
        patches = self.windows.patches(x.to(torch.float32), self.windows.out_size(x.shape))
        rows = patches.permute(0, 1, 2, 5, 3, 4).flatten(3).flatten(0, 2)  # (N·oh·ow, C·k·k)
        values, vectors = torch.linalg.eigh(torch.cov(rows.T))
        filters = (vectors / torch.sqrt(values + self.eps)).T.flip(0)  # the largest variance first
        weight = self.buffers["weight"]
        weight.copy_(torch.cat([filters, -filters]).reshape(weight.shape))

    def forward(self, x: Tensor):
        self.windows.check(self, x)
        return conv2d(x, self.buffers["weight"].to(x.dtype), self.params["bias"].to(x.dtype)), x.shape

    def backward(self, saved, dy: Tensor, input_grad: bool = True):
        w = self.buffers["weight"].to(dy.dtype)
        check_dy(self, dy, (saved[0], len(w), *self.windows.out_size(saved)))
        dx = conv_transpose2d(dy, w) if input_grad else None
        return dx, {"bias": bias_gradient(dy, self.params["bias"].dtype)}

    def to_torch(self, **_):
        w = self.buffers["weight"]
        return Conv2dModule(self.in_channels, len(w), self.windows.size)
