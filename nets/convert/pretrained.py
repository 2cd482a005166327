"""torchvision's models by name, and their published weights."""

import contextlib
import hashlib
import http.client
import io
import pickle
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nets.common.errors import CheckpointError, DataError, UsageError, nearest
from nets.common.extras import require
from nets.convert.from_torch import from_torch
from nets.layers.base import Layer

PREFIX = "torchvision:"
TIMEOUT = 30  # seconds without a byte


def model(target: str) -> nn.Module:
    """The model that "torchvision:resnet18" names, with initial weights. UsageError for an unknown name."""
    models = require("torchvision.models", "vision", target)  # takes a second to import
    name, known = target.removeprefix(PREFIX), models.list_models(module=models)
    if name not in known:
        raise UsageError(f'torchvision has no model "{name}"{nearest(name, known)}')
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        return models.get_model(name, weights=None)


def pretrained(target: str) -> tuple[Layer, Any]:
    """(net in evaluation mode, weights): the model that target names, with torchvision's default weights.

    weights: torchvision's entry, with `meta` (the categories) and `transforms()` (how to prepare an image).
    UsageError if there is no such model, ModuleError if it has parts without a layer, DataError if the
    weights can't be downloaded, CheckpointError if they are damaged.
    """
    module = model(target).eval()
    from_torch(module)  # raises its error before the download
    models = require("torchvision.models", "vision", target)
    weights = models.get_model_weights(target.removeprefix(PREFIX)).DEFAULT
    try:
        module.load_state_dict(_download(weights))
    except (RuntimeError, TypeError):
        raise CheckpointError(f"{_file(weights)}: holds other weights than {target}'s") from None
    return from_torch(module), weights


def _file(weights) -> Path:
    """The file that torch.hub saves a download in."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name


def _published(file: Path) -> bool:
    """Whether the file's SHA-256 starts with the digits in its name. True if the name has none."""
    digits = torch.hub.HASH_REGEX.search(file.name)
    with open(file, "rb") as f:
        return not digits or hashlib.file_digest(f, "sha256").hexdigest().startswith(digits[1])


def _download(weights) -> dict[str, Tensor]:
    """The tensors from torch.hub's folder, or else from their URL. Only tensors are unpickled.

    The checksum of a file in the folder is compared here, because torch.hub checks only downloads.
    """
    file, timeout = _file(weights), socket.getdefaulttimeout()
    if file.exists() and not _published(file):
        raise CheckpointError(f"{file}: not the published weights; delete it to have them downloaded")
    options: dict[str, Any] = dict(check_hash=True, map_location="cpu", weights_only=True)
    options["progress"] = sys.stderr.isatty()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        # torch.hub prints messages on stdout, which is for results
        with contextlib.redirect_stdout(sys.stderr if options["progress"] else io.StringIO()):
            return weights.get_state_dict(**options)
    except (OSError, http.client.HTTPException) as e:
        reason = getattr(e, "reason", None) or getattr(e, "strerror", None) or e
        raise DataError(f"{weights.url} can't be downloaded ({reason}); it belongs at {file}") from None
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValueError):
        if file.exists():
            raise CheckpointError(f"{file}: no weights; delete it to have them downloaded") from None
        raise DataError(f"{weights.url}: the download isn't what was published") from None
    finally:
        socket.setdefaulttimeout(timeout)
