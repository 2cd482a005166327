"""Published weights: a model of torchvision as our layers, asked about any picture."""

import contextlib
import hashlib
import http.client
import io
import pickle
import socket
import sys
import warnings
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from nets.common.device import keep_freed_memory
from nets.common.errors import CheckpointError, DataError, UsageError, nearest
from nets.common.extras import require
from nets.convert.from_torch import from_torch
from nets.data.images import decode

PREFIX = "torchvision:"
SOME = 8  # pictures at a time
PATIENCE = 30  # seconds without a byte
LONG = 100  # a picture longer than this many times its breadth is scaled to more than memory holds


def model(target: str) -> nn.Module:
    """The model that "torchvision:resnet18" names, with start values. UsageError where none has that name."""
    models = require("torchvision.models", "vision", target)  # takes a second to import

    name, known = target.removeprefix(PREFIX), models.list_models(module=models)
    if name not in known:
        raise UsageError(f'torchvision has no model "{name}"{nearest(name, known)}')
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        return models.get_model(name, weights=None)


class Pretrained:
    """torchvision's default weights of a model, its own preparation of pictures, its categories.

    UsageError where there is no such model, ModuleError where no layers here make it,
    DataError where its weights can't be had, CheckpointError where they are damaged.
    """

    def __init__(self, target: str, device: torch.device):
        self.target, self.device = target, device
        self.run = Path("runs") / target.replace(":", "-")  # for what is drawn
        module = model(target).eval()
        from_torch(module)  # complains before anything is downloaded
        models = require("torchvision.models", "vision", target)
        self.weights = models.get_model_weights(target.removeprefix(PREFIX)).DEFAULT
        self.classes, self.prepare = tuple(self.weights.meta["categories"]), self.weights.transforms()
        try:
            module.load_state_dict(_download(self.weights))
        except (RuntimeError, TypeError):
            raise CheckpointError(f"{_file(self.weights)}: holds other weights than {target}'s") from None
        if device.type == "cpu":
            keep_freed_memory()
        self.net = from_torch(module).to(device)

    def test(self, root=None):
        raise UsageError(f"{self.target}: which pictures? Name their files")

    def ask(self, x: Tensor, bar: bool = False) -> Tensor:
        """Logits (N, K) on the CPU for prepared pictures x (N, 3, H, W)."""
        parts = []
        for xs in tqdm(x.split(SOME), "evaluate", disable=None if bar else True, leave=False):
            parts.append(self.net.forward(xs.to(self.device))[0].cpu())
        return torch.cat(parts)

    def guess(self, paths) -> tuple[list, Tensor]:
        """Picture files of any size: (pixels as the net sees them, logits (N, K) on the CPU)."""
        x = torch.stack([self._prepared(p) for p in tqdm(paths, "read", disable=None, leave=False)])
        mean, std = (torch.tensor(t)[:, None, None] for t in (self.prepare.mean, self.prepare.std))
        pixels = ((x * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
        return list(pixels), self.ask(x, bar=True)

    def _prepared(self, path) -> Tensor:
        pixels = decode(path)
        if max(pixels.shape[:2]) > LONG * min(pixels.shape[:2]):
            size = f"{pixels.shape[1]} × {pixels.shape[0]}"
            raise DataError(f"{path}: {size} pixels are too long and narrow to be made a square of")
        return self.prepare(Image.fromarray(pixels))


def _file(weights) -> Path:
    """Where torch.hub keeps a download."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name


def _published(file: Path) -> bool:
    digits = torch.hub.HASH_REGEX.search(file.name)
    with open(file, "rb") as f:
        return not digits or hashlib.file_digest(f, "sha256").hexdigest().startswith(digits[1])


def _download(weights) -> dict[str, Tensor]:
    """The tensors, from torch.hub's folder or else from their address; nothing else is unpickled.

    A file is read only if it is the published one, whose SHA-256 its name begins to tell; torch.hub asks
    that of a download alone.
    """
    file, before = _file(weights), socket.getdefaulttimeout()
    if file.exists() and not _published(file):
        raise CheckpointError(f"{file}: not the published weights; delete it to have them downloaded")
    options = dict(progress=sys.stderr.isatty(), check_hash=True, map_location="cpu", weights_only=True)
    socket.setdefaulttimeout(PATIENCE)
    try:
        # torch.hub tells stdout what it does, and that is for guesses
        with contextlib.redirect_stdout(sys.stderr if options["progress"] else io.StringIO()):
            return weights.get_state_dict(**options)
    except (OSError, http.client.HTTPException) as e:
        reason = getattr(e, "reason", None) or getattr(e, "strerror", None) or e
        raise DataError(f"{weights.url} can't be downloaded ({reason}); it belongs at {file}") from None
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValueError):
        if file.exists():
            raise CheckpointError(f"{file}: no weights; if it is deleted, it is downloaded anew") from None
        raise DataError(f"{weights.url}: what came isn't what was published") from None
    finally:
        socket.setdefaulttimeout(before)
