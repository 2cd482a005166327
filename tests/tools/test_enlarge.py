"""A tree of small images, enlarged."""

import numpy as np
from PIL import Image


def test_enlarge_takes_as_many_of_every_class_and_scales_them(alexnet_tree):
    counts = {
        p.relative_to(alexnet_tree).as_posix(): len(list(p.glob("*.png"))) for p in alexnet_tree.glob("*/*")
    }
    assert counts == {
        "train/blue": 7, "train/green": 7, "train/red": 6, "test/blue": 2, "test/green": 1, "test/red": 1,
    }  # fmt: skip
    for path in alexnet_tree.glob("*/*/*.png"):
        assert Image.open(path).size == (110, 110)
    red = np.asarray(Image.open(alexnet_tree / "train/red/0.png")).mean((0, 1))
    assert red[0] > red[1] + 90 and red[0] > red[2] + 90
