"""A torchvision model with its published weights, which classifies images."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from nets.common.device import keep_freed_memory
from nets.common.errors import DataError, UsageError
from nets.convert.pretrained import pretrained
from nets.data.images import decode

BATCH = 8  # images at a time
MAX_ASPECT = 100  # longer and narrower images would need too much memory when they are scaled


class Pretrained:
    """The layers of a torchvision model with its default weights. Used like predict.Trained.

    target   the name, such as "torchvision:resnet18"
    classes  the names of the categories
    run      the folder for figures

    UsageError if there is no such model, ModuleError if it has parts without a layer, DataError if the
    weights can't be downloaded, CheckpointError if they are damaged.
    """

    def __init__(self, target: str, device: torch.device):
        self.target, self.device = target, device
        self.run = Path("runs") / target.replace(":", "-")
        net, weights = pretrained(target)
        self.classes: tuple[str, ...] = tuple(weights.meta["categories"])
        self.prepare = weights.transforms()
        if device.type == "cpu":
            keep_freed_memory()
        self.net = net.to(device)

    def test(self, root=None) -> NoReturn:
        """UsageError: there is no test set."""
        raise UsageError(f"{self.target}: which images? Name their files")

    def predict(self, x: Tensor, bar: bool = False) -> Tensor:
        """Logits (N, K) on the CPU for prepared images x (N, 3, H, W)."""
        parts = []
        for xs in tqdm(x.split(BATCH), "evaluate", disable=None if bar else True, leave=False):
            parts.append(self.net.forward(xs.to(self.device))[0].cpu())
        return torch.cat(parts)

    def guess(self, paths: Sequence[str | Path]) -> tuple[list[Tensor], Tensor]:
        """Classify image files of any size.

        Returns the pixels that the net sees, uint8 (H, W, 3) each, and logits (N, K) on the CPU.
        """
        x = torch.stack([self._prepared(p) for p in tqdm(paths, "read", disable=None, leave=False)])
        mean, std = (torch.tensor(t)[:, None, None] for t in (self.prepare.mean, self.prepare.std))
        pixels = ((x * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
        return list(pixels), self.predict(x, bar=True)

    def _prepared(self, path: str | Path) -> Tensor:
        """The image as the net's input (3, H, W), by torchvision's preparation for these weights."""
        pixels = decode(path)
        if max(pixels.shape[:2]) > MAX_ASPECT * min(pixels.shape[:2]):
            size = f"{pixels.shape[1]} × {pixels.shape[0]}"
            raise DataError(f"{path}: {size} pixels are too long and narrow to be made a square of")
        return self.prepare(Image.fromarray(pixels))
