"""Norms within one sample: LayerNorm, RMSNorm and GroupNorm. They don't depend on the batch or the mode.

m numbers of a sample are normalized together, x̂ = (x − μ)·r with r = 1/√(σ² + ε), and y = γ·x̂ + β. With
g = dy·γ, and means over the same m numbers,

    dx = r·(g − mean(g) − x̂·mean(g·x̂))        dγ = Σ dy·x̂        dβ = Σ dy

Derivation of dx: dμ/dx_i = 1/m and dσ²/dx_i = 2(x_i − μ)/m give ∂x̂_k/∂x_i = r·(δ_ki − 1/m − x̂_k·x̂_i/m), as
for BatchNorm2d in training. dx_i is the sum over k of this times g_k.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.common.errors import BatchError, Unsupported
from nets.layers.base import Layer, SavesInputFirst, sum_dtype
from nets.layers.checks import check_dy
from nets.layers.registry import register


def _moments(x: Tensor, axes: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor]:
    """(μ, r) over the axes, which are kept with size 1, in float32 at least."""
    wide = x.to(sum_dtype(x))
    mean = wide.mean(axes, True)
    return mean, torch.rsqrt((wide - mean).square().mean(axes, True) + eps)


def _input_gradient(g: Tensor, normal: Tensor, r: Tensor, axes: tuple[int, ...]) -> Tensor:
    """dx, from g = dy·γ, x̂ and r."""
    return r * (g - g.mean(axes, True) - normal * (g * normal).mean(axes, True))


def _in(dtype: torch.dtype, t: Tensor | None) -> Tensor | None:
    return None if t is None else t.to(dtype)


class LayerNormModule(nn.LayerNorm):
    """nn.LayerNorm that converts its weights to the dtype of x."""

    def forward(self, input: Tensor) -> Tensor:
        weights = _in(input.dtype, self.weight), _in(input.dtype, self.bias)
        return F.layer_norm(input, self.normalized_shape, *weights, self.eps)


class RMSNormModule(nn.RMSNorm):
    """nn.RMSNorm that converts its weight to the dtype of x."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, _in(x.dtype, self.weight), self.eps)


class GroupNormModule(nn.GroupNorm):
    """nn.GroupNorm that converts its weights to the dtype of x."""

    def forward(self, input: Tensor) -> Tensor:
        weights = _in(input.dtype, self.weight), _in(input.dtype, self.bias)
        return F.group_norm(input, self.num_groups, *weights, self.eps)


def _layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """The module for F.layer_norm with parameters of the forward's own."""
    if weight is None and bias is not None:
        raise Unsupported("layer_norm with a bias alone")
    module = nn.LayerNorm(normalized_shape, eps, weight is not None)
    module.weight, module.bias = weight, bias  # type: ignore[assignment]
    return module


class _LastAxes(SavesInputFirst, Layer):
    """A norm over the last axes, whose sizes are given."""

    normalized_shape: tuple[int, ...]

    def _set_shape(self, normalized_shape):
        given = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        self.normalized_shape = tuple(given)
        if not self.normalized_shape or min(self.normalized_shape) < 1:
            raise ValueError(f"normalized_shape is one or more sizes, not {normalized_shape}")
        self.axes = tuple(range(-len(self.normalized_shape), 0))

    def check(self, x: Tensor):
        """BatchError unless the last axes of x have the given sizes."""
        if x.shape[-len(self.normalized_shape) :] != self.normalized_shape:
            raise BatchError(f"{type(self).__name__} of {self.normalized_shape} takes no {tuple(x.shape)}")

    def _sum(self, t: Tensor, like: Tensor) -> Tensor:
        """The sum over all axes but the last ones, in the dtype of a parameter."""
        return t.sum_to_size(self.normalized_shape).to(like.dtype)


@register
class LayerNorm(_LastAxes):
    """y = γ·(x − μ)·r + β over the last axes, whose sizes are normalized_shape.

    saved holds x, μ and r. ValueError for a size below 1.
    Source: Ba, Kiros and Hinton 2016, "Layer normalization".
    """

    inferred = {"normalized_shape": -1}
    examples = [
        ((5, 6), dict(normalized_shape=6)),
        ((3, 4, 5, 6), dict(normalized_shape=(5, 6), bias=False, eps=1e-3)),
        ((3, 4, 6), dict(normalized_shape=6, elementwise_affine=False)),
    ]
    torch_types = (nn.LayerNorm, LayerNormModule)
    torch_tensor_calls = {"layer_norm": _layer_norm}

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ):
        super().__init__()
        self._set_shape(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        if elementwise_affine:
            self.params["weight"] = torch.ones(self.normalized_shape)
        if elementwise_affine and bias:
            self.params["bias"] = torch.zeros(self.normalized_shape)

    def forward(self, x: Tensor):
        self.check(x)
        mean, r = _moments(x, self.axes, self.eps)
        return self._normalize(x), (x, mean, r)

    def _normalize(self, x: Tensor) -> Tensor:
        gamma, beta = (_in(x.dtype, self.params.get(name)) for name in ("weight", "bias"))
        y = F.layer_norm(x, self.normalized_shape, gamma, beta, self.eps)
        channels_last = x.dim() == 4 and x.stride(1) == 1
        return y.contiguous(memory_format=torch.channels_last) if channels_last else y

    def backward(self, saved, dy: Tensor):
        x, mean, r = saved
        check_dy(self, dy, x.shape)
        gamma, wide = self.params.get("weight"), dy.to(sum_dtype(dy))
        normal = (x.to(sum_dtype(x)) - mean) * r
        g = wide if gamma is None else wide * gamma.to(wide.dtype)
        grads = {}
        if gamma is not None:
            grads["weight"] = self._sum(wide * normal, gamma)
        if "bias" in self.params:
            grads["bias"] = self._sum(wide, self.params["bias"])
        return _input_gradient(g, normal, r, self.axes).to(dy.dtype), grads

    def to_torch(self, **_):
        bias = "bias" in self.params
        return LayerNormModule(list(self.normalized_shape), self.eps, self.elementwise_affine, bias)

    @classmethod
    def from_torch(cls, module):
        shape, affine = tuple(module.normalized_shape), module.elementwise_affine
        return cls(shape, module.eps, affine, module.bias is not None)


@register
class RMSNorm(_LastAxes):
    """y = γ·x·r with r = 1/√(mean(x²) + ε): LayerNorm without the mean, so dx = r·(g − x̂·mean(g·x̂)), x̂ = x·r.

    eps: by default the distance from 1 to the next number of x's dtype, as in torch. ValueError for a size
    below 1.
    Source: Zhang and Sennrich 2019, "Root mean square layer normalization".
    """

    inferred = {"normalized_shape": -1}
    examples = [
        ((5, 6), dict(normalized_shape=6)),
        ((3, 4, 6), dict(normalized_shape=(4, 6), eps=1e-3, elementwise_affine=False)),
    ]
    torch_types = (nn.RMSNorm, RMSNormModule)

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float | None = None,
        elementwise_affine: bool = True,
    ):
        super().__init__()
        self._set_shape(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        if elementwise_affine:
            self.params["weight"] = torch.ones(self.normalized_shape)

    def forward(self, x: Tensor):
        self.check(x)
        wide = x.to(sum_dtype(x))
        eps = torch.finfo(x.dtype).eps if self.eps is None else self.eps
        r = torch.rsqrt((wide * wide).mean(self.axes, True) + eps)
        y = wide * r
        if self.elementwise_affine:
            y = y * self.params["weight"].to(wide.dtype)
        return y.to(x.dtype), (x, r)

    def backward(self, saved, dy: Tensor):
        x, r = saved
        check_dy(self, dy, x.shape)
        gamma, wide = self.params.get("weight"), dy.to(sum_dtype(dy))
        normal = x.to(sum_dtype(x)) * r
        g = wide if gamma is None else wide * gamma.to(wide.dtype)
        dx = (r * (g - normal * (g * normal).mean(self.axes, True))).to(dy.dtype)
        return dx, {} if gamma is None else {"weight": self._sum(wide * normal, gamma)}

    def to_torch(self, **_):
        return RMSNormModule(list(self.normalized_shape), self.eps, self.elementwise_affine)

    @classmethod
    def from_torch(cls, module):
        return cls(tuple(module.normalized_shape), module.eps, module.elementwise_affine)


@register
class GroupNorm(SavesInputFirst, Layer):
    """y = γ_c·(x − μ)·r + β_c, where μ and r are those of a group of channels of one sample, x (N, C, …).

    num_groups groups of C / num_groups channels each. saved holds x, μ and r. ValueError unless num_groups
    divides num_channels.
    Source: Wu and He 2018, "Group normalization".
    """

    inferred = {"num_channels": 1}
    examples = [
        ((3, 4, 7, 8), dict(num_groups=2, num_channels=4)),
        ((3, 6, 5), dict(num_groups=6, num_channels=6, eps=1e-3, affine=False)),
    ]
    torch_types = (nn.GroupNorm, GroupNormModule)

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True):
        super().__init__()
        if num_groups < 1 or num_channels < 1 or num_channels % num_groups:
            raise ValueError(f"num_groups divides num_channels, not {num_groups} and {num_channels}")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        if affine:
            self.params["weight"] = torch.ones(num_channels)
            self.params["bias"] = torch.zeros(num_channels)

    def _grouped(self, t: Tensor) -> Tensor:
        """(N, C, …) -> (N, groups, C / groups, …), a view."""
        return t.unflatten(1, (self.num_groups, self.num_channels // self.num_groups))

    def _wide(self, name: str, x: Tensor) -> Tensor:
        """A parameter as (C, 1, …), in the dtype of x."""
        return self.params[name].view(-1, *[1] * (x.dim() - 2)).to(x.dtype)

    def forward(self, x: Tensor):
        if x.dim() < 2 or x.shape[1] != self.num_channels:
            raise BatchError(f"GroupNorm of {self.num_channels} channels takes no {tuple(x.shape)}")
        if not math.prod(x.shape[2:]):
            raise BatchError(f"GroupNorm takes samples with numbers, not {tuple(x.shape)}")
        grouped = self._grouped(x.to(sum_dtype(x)))
        mean, r = _moments(grouped, tuple(range(2, grouped.dim())), self.eps)
        y = ((grouped - mean) * r).flatten(1, 2)
        if self.affine:
            y = y * self._wide("weight", y) + self._wide("bias", y)
        return y.to(x.dtype), (x, mean, r)

    def backward(self, saved, dy: Tensor):
        x, mean, r = saved
        check_dy(self, dy, x.shape)
        wide = dy.to(sum_dtype(dy))
        normal = (self._grouped(x.to(sum_dtype(x))) - mean) * r
        g = self._grouped(wide * self._wide("weight", wide) if self.affine else wide)
        axes = tuple(range(2, g.dim()))
        dx = _input_gradient(g, normal, r, axes).flatten(1, 2).to(dy.dtype)
        if not self.affine:
            return dx, {}
        other = [i for i in range(x.dim()) if i != 1]
        dtype = self.params["weight"].dtype
        dgamma = (wide * normal.flatten(1, 2)).sum(other)
        return dx, {"weight": dgamma.to(dtype), "bias": wide.sum(other).to(dtype)}

    def to_torch(self, **_):
        return GroupNormModule(self.num_groups, self.num_channels, self.eps, self.affine)

    @classmethod
    def from_torch(cls, module):
        return cls(module.num_groups, module.num_channels, module.eps, module.affine)
