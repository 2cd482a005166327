"""AlexNet, narrow, on a small tree of images: the fixture alexnet_tree."""

from pathlib import Path

import numpy as np
from PIL import Image

from nets.commands.targets import narrow
from nets.training import config

PATH = Path(__file__).parents[1] / "configs" / "alexnet.toml"
# fewer inputs a neuron: a Gaussian of 0.01 would let nothing through
WIDE = [f"net.layers.{i}.init_std=0.15" for i in (4, 8, 10, 12, 17, 20, 22)]
ENLARGE = ["--size", "110", "--count", "20"]


def make_small_tree(root):
    """Three classes of small images."""
    random = np.random.default_rng(0)
    for split, n in (("train", 8), ("test", 3)):
        for label, tint in (("blue", 2), ("green", 1), ("red", 0)):
            (root / split / label).mkdir(parents=True)
            for i in range(n):
                pixels = random.integers(0, 120, (12, 12, 3), np.uint8)
                pixels[..., tint] += 120
                Image.fromarray(pixels).save(root / split / label / f"{i}.png")


def overrides(tree, *more):
    """The narrow net on the tree of three classes."""
    own = ["data.size=110", "data.num_classes=3", "net.layers.-1.out_features=3"]
    own += [f"data.root={config.toml(str(tree))}", "train.batch_size=6", "train.epochs=2"]
    return [*narrow(PATH), *own, "train.schedule=constant", *more]
