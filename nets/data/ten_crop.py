"""Parts of a picture larger than what the net sees: its center, or ten of them."""

from torch import Tensor


def center(x: Tensor, side: int) -> Tensor:
    """The middle side × side of x (B, C, H, W)."""
    top, left = (x.shape[2] - side) // 2, (x.shape[3] - side) // 2
    return x[:, :, top : top + side, left : left + side]


def ten_crop(x: Tensor, side: int) -> list[Tensor]:
    """The four corners of x (B, C, H, W) and its center, side × side, then their mirror images.

    Source: Krizhevsky, Sutskever and Hinton 2012, 4.1.
    """
    down, right = x.shape[2] - side, x.shape[3] - side
    corners = [x[:, :, i : i + side, j : j + side] for i in (0, down) for j in (0, right)]
    views = [*corners, center(x, side)]
    return views + [view.flip(3) for view in views]
