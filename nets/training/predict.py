"""The net of a finished run, to test it again or to classify images with it."""

import dataclasses
import json
import math
from pathlib import Path

import torch
from torch import Tensor

from nets.common import tensorfile
from nets.common.device import keep_freed_memory, set_current_device
from nets.common.errors import CheckpointError, DataError, NonFiniteError, UsageError
from nets.data import datasets as data
from nets.data import stream
from nets.data.datasets import Dataset
from nets.data.images import decode
from nets.data.stream import ImageStream
from nets.kernels import lower
from nets.training import config
from nets.training.checkpoint import BEST, LAST
from nets.training.evaluate import outputs
from nets.training.make import make_net
from nets.training.metrics import Metrics, OutputMetrics, metrics, ranking

LARGEST = 2**28  # numbers in a sample


class Trained:
    """The net of a run folder's last checkpoint or, with `best`, of that with the best validation score.

    CheckpointError if the folder has no complete run of a config.
    """

    def __init__(self, run: Path, device: torch.device, best: bool = False):
        self.run, self.device = Path(run), device
        if not self.run.is_dir():
            raise CheckpointError(f"{run}: no such run")
        if (self.run / "settings.toml").exists() and not (self.run / "config.toml").exists():
            raise CheckpointError(
                f"{run}: a run of fit has no config of its net; fit(…, resume=True) returns the trained run"
            )
        try:
            self.config = config.load(self.run / "config.toml")
        except UsageError as e:
            raise CheckpointError(f"{run}: {e}") from None
        path = self.run / (BEST if best else LAST)
        if best and not path.exists():
            raise CheckpointError(
                f"{run}: has no best checkpoint; a validation split (data.validation) selects one"
            )
        tensors, words = tensorfile.read(path)
        self.classes, self.shape = _words(words, path)
        set_current_device(device)
        if device.type == "cpu":
            keep_freed_memory()
        t = self.config.train
        self.dtype, self.channels_last = getattr(torch, t.dtype), t.channels_last
        try:
            n_outputs = len(self.classes) or data.shapes(self.config.data)[1]
            weights = torch.promote_types(self.dtype, torch.float32)
            with torch.device("meta"):  # a checkpoint can ask for any sizes: are they its tensors'?
                bare = make_net(self.config, self.shape, n_outputs)
                tensorfile.match(bare.to(torch.device("meta"), weights), tensors, path)
            self.net = make_net(self.config, self.shape, n_outputs).to(device, weights)
        except UsageError as e:
            raise CheckpointError(f"{path}: doesn't match its config: {e}") from None
        tensorfile.restore(self.net, tensors, path)
        self.fast = lower(self.net, self.config.net.backend, device, self.dtype)
        self.mean, self.std = tensors.get("data.mean"), tensors.get("data.std")
        if len(self.shape) == 3 and not _are_statistics(self.mean, self.std, self.shape[0]):
            raise CheckpointError(f"{path}: has no mean and standard deviation of the images' channels")

    def predict(self, x: Tensor | ImageStream, test: bool = False) -> Tensor:
        """The net's outputs for x: uint8 images (N, H, W, C), or inputs (N, D).

        test: as for a test set, of which eval.tta_fraction gets all views; else all samples get them.
        """
        x, y = x.to(self.device), torch.empty(0)
        size = self.config.data.crop_size
        data = Dataset(x, y, x, y, self.classes, self.mean, self.std, size).to(self.device)
        settings = self.config.eval if test else dataclasses.replace(self.config.eval, tta_fraction=1.0)
        z = outputs(self.fast, x, data, self.dtype, self.channels_last, test, settings)
        if not z.isfinite().all():
            raise NonFiniteError(f"{self.run}: an output of the net is infinite or NaN")
        return z

    def test(self, root=None) -> Metrics | OutputMetrics:
        """The metrics on the data set's test split. root: the data set's folder, by default the config's."""
        conf = self.config.data
        if root is not None:
            conf = dataclasses.replace(conf, root=str(root))
        found = data.load(conf, self.config.augment)
        if found.classes != self.classes or found.shape != self.shape:
            raise DataError(f"{conf.root}: not the classes and sizes that {self.run} was trained on")
        assert found.test_x is not None and found.test_y is not None
        z = self.predict(found.test_x, test=True)
        stream.report_skipped(found.skipped)
        return metrics(z, found.test_y.to(self.device))

    def guess(self, paths) -> tuple[list, Tensor]:
        """For image files of any size: (pixels as the net sees them, logits (N, K) on the CPU)."""
        if len(self.shape) != 3 or not self.classes:
            raise UsageError(f"{self.run}: this net doesn't classify images")
        channels, height, width = self.shape
        if height != width:
            raise UsageError(f"{self.run}: images of {width} × {height} can't be read from files")
        size = self.config.data.size if self.config.data.crop_size else height
        limit = self.config.data.max_megapixels
        pixels = [torch.tensor(decode(p, channels, size, max_megapixels=limit)) for p in paths]
        return pixels, self.predict(torch.stack(pixels)).cpu()


def _are_statistics(mean: Tensor | None, std: Tensor | None, channels: int) -> bool:
    if mean is None or std is None or mean.dtype != torch.float32 or std.dtype != torch.float32:
        return False
    if mean.shape != (channels,) or std.shape != (channels,):
        return False
    return bool(mean.isfinite().all() and std.isfinite().all() and (std > 0).all())


def _words(words: dict, path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """A checkpoint's classes and the shape of a sample. CheckpointError if they are damaged."""
    classes, shape = words.get("classes"), words.get("shape")
    if isinstance(classes, list) and isinstance(shape, list):
        named = all(isinstance(c, str) and c.isprintable() for c in classes)
        if named and all(type(n) is int and n > 0 for n in shape) and math.prod(shape) <= LARGEST:
            return tuple(classes), tuple(shape)
    raise CheckpointError(f"{path}: not a checkpoint of this project (no classes, or no size)")


def describe(result, classes) -> str:
    """Metrics as text: each class, the pairs most often confused, the summary."""
    lines = []
    if isinstance(result, Metrics):
        width = max(map(len, classes))
        lines += [f"{name:<{width}}  {share:6.1%}" for name, share in zip(classes, result.per_class)]
        if result.confused:
            lines += ["", "most often confused:"]
        lines += [f"  {classes[a]} taken for {classes[b]}: {n}" for a, b, n in result.confused]
        lines.append("")
    return "\n".join([*lines, result.line()])


def bars(path, z: Tensor, classes, width: int = 30) -> str:
    """The five best classes for one image's logits (K), as bars of text."""
    p = torch.softmax(z, 0)
    best = ranking(z[None])[0, :5].tolist()
    names = max(len(classes[k]) for k in best)
    lines = [f"{path}"]
    for k in best:
        bar = "█" * round(width * float(p[k]))
        lines.append(f"  {classes[k]:<{names}}  {float(p[k]):6.1%}  {bar}".rstrip())
    return "\n".join(lines)


def as_json(result, classes) -> str:
    return json.dumps(result.facts(classes), indent=2)


def guesses_json(paths, z: Tensor, classes) -> str:
    p, best = torch.softmax(z, 1), ranking(z)[:, :5]
    return json.dumps(
        [
            {"file": str(path), "guesses": [[classes[k], float(p[i, k])] for k in best[i].tolist()]}
            for i, path in enumerate(paths)
        ],
        indent=2,
    )
