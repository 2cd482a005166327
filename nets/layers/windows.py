"""Windows: the shifted, strided views of an image that convolution and pooling work on.

For a kernel of kh × kw there are kh·kw views. View (i, j) holds, for every output place
(p, q), the input at row s·p + d·i and column s·q + d·j of the padded image (stride s,
dilation d). Forward reads through the views. Backward is the adjoint: it adds through them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nets.common.errors import BatchError
from nets.layers.base import Layer, check_images, sum_dtype

# Options where mistakes are likely: odd sizes, windows that overlap, and windows that leave a rest.
EXAMPLES = [
    dict(kernel_size=3, stride=2, padding=1),
    dict(kernel_size=[3, 2], stride=[1, 2]),
    dict(kernel_size=2),
]


IntOrPair = int | list[int] | tuple[int, ...]


def pair(value: IntOrPair, name: str, least: int) -> tuple[int, int]:
    """An int, or two of them, as (rows, columns). ValueError unless each is at least `least`."""
    both = tuple(value) if isinstance(value, (list, tuple)) else (value, value)
    if len(both) != 2 or any(type(v) is not int or v < least for v in both):
        raise ValueError(f"{name} must be a whole number of at least {least}, or two, not {value}")
    rows, columns = both
    return rows, columns


@dataclass(frozen=True)
class Windows:
    """The geometry of a sliding window. Each field is (rows, columns)."""

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)

    @classmethod
    def of(cls, size: IntOrPair, stride: IntOrPair, padding: IntOrPair, dilation: IntOrPair = 1) -> "Windows":
        """From numbers or pairs of them. ValueError for values that are no valid sizes."""
        return cls(
            pair(size, "kernel_size", 1),
            pair(stride, "stride", 1),
            pair(padding, "padding", 0),
            pair(dilation, "dilation", 1),
        )

    @classmethod
    def pool(
        cls, size: IntOrPair, stride: IntOrPair | None, padding: IntOrPair, dilation: IntOrPair = 1
    ) -> "Windows":
        """For a pool: the stride is the size by default. ValueError if padding exceeds half a window."""
        win = cls.of(size, size if stride is None else stride, padding, dilation)
        if any(2 * p > k for p, k in zip(win.padding, win.size)):  # torch's limit, for any dilation
            raise ValueError(f"padding must be at most half a window, not {padding}")
        return win

    def check(self, layer: Layer, x: Tensor):
        """BatchError unless x is images that are, with padding, at least as large as a window."""
        check_images(layer, x)
        if min(self.out_size(x.shape)) < 1:
            (rows, cols), (h, w), (ph, pw) = self.reach(), x.shape[2:], self.padding
            padded = f"{h + 2 * ph} × {w + 2 * pw}"
            raise BatchError(f"a window of {rows} × {cols} is larger than the image, {padded}")

    def extra_repr(self) -> str:
        """The options as torch prints them: padding and dilation only if they aren't the defaults."""
        shown = [f"kernel_size={self.size}", f"stride={self.stride}"]
        shown += [f"padding={self.padding}"] if self.padding != (0, 0) else []
        shown += [f"dilation={self.dilation}"] if self.dilation != (1, 1) else []
        return ", ".join(shown)

    def reach(self) -> tuple[int, int]:
        """Rows and columns from a window's first input to its last."""
        (kh, kw), (dh, dw) = self.size, self.dilation
        return dh * (kh - 1) + 1, dw * (kw - 1) + 1

    def _steps(self, shape: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """For rows and for columns: (steps from the first window to the last, places left over after it)."""
        (h, w), (rows, columns) = shape[2:], self.reach()
        (sh, sw), (ph, pw) = self.stride, self.padding
        h, w = h + 2 * ph - rows, w + 2 * pw - columns
        return (h // sh, h % sh), (w // sw, w % sw)  # torch.compile can't trace divmod

    def disjoint(self) -> bool:
        """Whether no input is in two windows."""
        return all(s >= reach for s, reach in zip(self.stride, self.reach()))

    def out_size(self, shape: Sequence[int]) -> tuple[int, int]:
        """Output rows and columns for an input of shape (N, C, H, W)."""
        (rows, _), (columns, _) = self._steps(shape)
        return rows + 1, columns + 1

    def left_over(self, shape: Sequence[int]) -> tuple[int, int]:
        """Rows and columns after the last window: `output_padding` of the transposed convolution."""
        (_, rows), (_, columns) = self._steps(shape)
        return rows, columns

    def pad(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) with a border of zeros."""
        (ph, pw) = self.padding
        return torch.nn.functional.pad(x, (pw, pw, ph, ph)) if ph or pw else x

    def views(self, padded: Tensor, out: Sequence[int]) -> Iterator[tuple[int, int, Tensor]]:
        """Yield (i, j, view) with view (N, C, *out), for every kernel offset in row order."""
        (kh, kw), (sh, sw), (dh, dw) = self.size, self.stride, self.dilation
        (oh, ow) = out
        for i in range(kh):
            rows = slice(i * dh, i * dh + sh * (oh - 1) + 1, sh)
            for j in range(kw):
                cols = slice(j * dw, j * dw + sw * (ow - 1) + 1, sw)
                yield i, j, padded[:, :, rows, cols]

    def patches(self, x: Tensor, out: Sequence[int]) -> Tensor:
        """Every window of x, padded with zeros, as one view: (N, *out, kh, kw, C)."""
        x = self.pad(x)
        (kh, kw), (sh, sw), (dh, dw) = self.size, self.stride, self.dilation
        n, c, row, col = x.stride()
        size = (len(x), *out, kh, kw, x.shape[1])
        return x.as_strided(size, (n, sh * row, sw * col, dh * row, dw * col, c))

    def scatter_add(self, like: Tensor, shape: Sequence[int], part: Callable[[int, int], Tensor]) -> Tensor:
        """The adjoint of reading through the views: a sum of shape `shape`, in the dtype of like.

        part: (i, j) -> tensor (N, C, oh, ow) that is added through view (i, j) to zeros. The padding is
        cropped at the end. like: a tensor (N, C, oh, ow) that gives dtype, device and memory format.
        The sum is computed in float32 at least.
        """
        (ph, pw), (h, w) = self.padding, shape[2:]
        # channels_last, with or without the gaps that the crop below leaves
        nhwc = like.stride(1) == 1 and not like.is_contiguous()
        padded = torch.empty(
            (*shape[:2], h + 2 * ph, w + 2 * pw),
            dtype=sum_dtype(like),
            device=like.device,
            memory_format=torch.channels_last if nhwc else torch.contiguous_format,
        ).zero_()
        for i, j, view in self.views(padded, like.shape[2:]):
            view += part(i, j)
        return padded[:, :, ph : ph + h, pw : pw + w].to(like.dtype)
