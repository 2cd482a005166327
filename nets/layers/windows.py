"""Windows: convolution and pooling see a picture through shifted, strided views of it.

For a kernel of kh × kw there are kh·kw views, and view (i, j) holds, for every output place
(p, q), the input at row s·p + d·i and column s·q + d·j of the padded picture (stride s,
dilation d). Reading through the views is the forward; adding back through them its adjoint.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nets.common.errors import BatchError
from nets.layers.base import check_pictures, sum_dtype

# Options that are easily got wrong: odd sizes, windows that overlap, and that leave a rest.
EXAMPLES = [
    dict(kernel_size=3, stride=2, padding=1),
    dict(kernel_size=[3, 2], stride=[1, 2]),
    dict(kernel_size=2),
]


def pair(value, name: str, least: int) -> tuple[int, int]:
    """An int, or two of them, as (rows, columns). ValueError under `least` or otherwise."""
    both = tuple(value) if isinstance(value, (list, tuple)) else (value, value)
    if len(both) != 2 or any(type(v) is not int or v < least for v in both):
        raise ValueError(f"{name} must be a whole number of at least {least}, or two, not {value}")
    return both


@dataclass(frozen=True)
class Windows:
    """The geometry of a sliding window, each field (rows, columns)."""

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)

    @classmethod
    def of(cls, size, stride, padding, dilation=1):
        return cls(
            pair(size, "kernel_size", 1),
            pair(stride, "stride", 1),
            pair(padding, "padding", 0),
            pair(dilation, "dilation", 1),
        )

    @classmethod
    def pool(cls, size, stride, padding, dilation=1):
        """A pool's: side by side by default, and none of them in the padding alone."""
        win = cls.of(size, size if stride is None else stride, padding, dilation)
        if any(2 * p > k for p, k in zip(win.padding, win.size)):  # torch's limit, dilated or not
            raise ValueError(f"padding must be at most half a window, not {padding}")
        return win

    def check(self, layer, x: Tensor):
        """BatchError unless x is pictures that a window fits into."""
        check_pictures(layer, x)
        if min(self.out_size(x.shape)) < 1:
            (rows, cols), (h, w), (ph, pw) = self.reach(), x.shape[2:], self.padding
            padded = f"{h + 2 * ph} × {w + 2 * pw}"
            raise BatchError(f"a window of {rows} × {cols} is larger than the picture, {padded}")

    def extra_repr(self) -> str:
        """As torch prints it: what isn't the default is left out."""
        shown = [f"kernel_size={self.size}", f"stride={self.stride}"]
        shown += [f"padding={self.padding}"] if self.padding != (0, 0) else []
        shown += [f"dilation={self.dilation}"] if self.dilation != (1, 1) else []
        return ", ".join(shown)

    def reach(self) -> tuple[int, int]:
        """Rows and columns from a window's first input to its last."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.size, self.dilation))

    def _spans(self, shape) -> list[tuple[int, int]]:
        """Per axis: outputs, and input places left over after the last window."""
        spans = []
        for n, reach, s, p in zip(shape[2:], self.reach(), self.stride, self.padding):
            room = n + 2 * p - reach
            spans.append((room // s + 1, room % s))
        return spans

    def disjoint(self) -> bool:
        """Do no two windows share an input?"""
        return all(s >= reach for s, reach in zip(self.stride, self.reach()))

    def out_size(self, shape) -> tuple[int, int]:
        """Output rows and columns for an input of shape (N, C, H, W)."""
        return tuple(out for out, _ in self._spans(shape))

    def left_over(self, shape) -> tuple[int, int]:
        """Rows and columns that no window reaches: `output_padding` of the transposed form."""
        return tuple(left for _, left in self._spans(shape))

    def pad(self, x: Tensor) -> Tensor:
        (ph, pw) = self.padding
        return torch.nn.functional.pad(x, (pw, pw, ph, ph)) if ph or pw else x

    def views(self, padded: Tensor, out: tuple[int, int]):
        """Yield (i, j, view) with view (N, C, *out), for every kernel offset in row order."""
        (kh, kw), (sh, sw), (dh, dw) = self.size, self.stride, self.dilation
        (oh, ow) = out
        for i in range(kh):
            rows = slice(i * dh, i * dh + sh * (oh - 1) + 1, sh)
            for j in range(kw):
                cols = slice(j * dw, j * dw + sw * (ow - 1) + 1, sw)
                yield i, j, padded[:, :, rows, cols]

    def patches(self, x: Tensor, out: tuple[int, int]) -> Tensor:
        """Every window of x, padded by zeros, as one view: (N, *out, kh, kw, C)."""
        x = self.pad(x)
        (kh, kw), (sh, sw), (dh, dw) = self.size, self.stride, self.dilation
        n, c, row, col = x.stride()
        size = (len(x), *out, kh, kw, x.shape[1])
        return x.as_strided(size, (n, sh * row, sw * col, dh * row, dw * col, c))

    def scatter_add(self, like: Tensor, shape, part) -> Tensor:
        """The adjoint: zeros of `shape`, padded, plus part(i, j) through each view, cropped.

        like: a tensor (N, C, oh, ow) that gives dtype, device and memory format. The sums are
        taken in float32 at least.
        """
        (ph, pw), (h, w) = self.padding, shape[2:]
        nhwc = like.stride(1) == 1 and not like.is_contiguous()  # a crop, as below, has gaps besides
        padded = torch.empty(
            (*shape[:2], h + 2 * ph, w + 2 * pw),
            dtype=sum_dtype(like),
            device=like.device,
            memory_format=torch.channels_last if nhwc else torch.contiguous_format,
        ).zero_()
        for i, j, view in self.views(padded, like.shape[2:]):
            view += part(i, j)
        return padded[:, :, ph : ph + h, pw : pw + w].to(like.dtype)
