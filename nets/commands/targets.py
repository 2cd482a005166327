"""What can be checked by name: a config, a layer, a loss, a torchvision model, or `module:callable`."""

import contextlib
import importlib
import inspect
import os
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nets import losses as loss
from nets.common.errors import MismatchError, ModuleError, Stopped, UsageError, describe, nearest
from nets.convert import pretrained
from nets.convert.from_torch import from_torch
from nets.data import datasets as data
from nets.gradcheck.case import Case, FunctionCase
from nets.layers.activations import Scale
from nets.layers.base import Layer
from nets.layers.registry import LAYERS, examples
from nets.training import config
from nets.training.make import make_loss, make_net

LOSSES = {
    name: cls
    for name, cls in vars(loss).items()
    if inspect.isclass(cls) and issubclass(cls, loss.Loss) and cls is not loss.Loss
}

MODEL_INPUT = (2, 3, 64, 64)  # the smallest round size that all of torchvision's can take
# Configs too large to be held in float64 many times over: the same layers, with fewer channels and pixels.
NARROW = {
    "alexnet": {
        "data.crop_size": 99,  # 24 × 24 places after the first convolution, 2 × 2 after the last pool
        "data.num_classes": 11,
        **{f"net.layers.{i}.out_channels": c for i, c in ((0, 8), (4, 16), (8, 12), (10, 12), (12, 8))},
        **{f"net.layers.{i}.out_features": n for i, n in ((17, 24), (20, 20), (22, 11))},
    },
    "cifar10_resnet": {
        **{f"net.layers.{i}.out_channels": c for i, c in ((0, 8), (3, 12), (8, 16), (12, 24))},
        **{f"net.layers.7.body.{i}.out_channels": 12 for i in (0, 3)},
        **{f"net.layers.16.body.{i}.out_channels": 24 for i in (0, 3)},
    },
}


def narrow(path) -> list[str]:
    """The overrides that make a large config small enough to check, [] for a small config."""
    return [f"{key}={value}" for key, value in NARROW.get(Path(path).stem, {}).items()]


def shipped_configs() -> list[str]:
    """The names of the shipped configs. MismatchError if none is found: nothing would be checked."""
    found = list(config.shipped_configs())
    if not found:
        raise MismatchError("not checked: no shipped config found, so the installation of nets is incomplete")
    return found


def everything() -> list[str]:
    """The names of the shipped configs, the layers and the losses. MismatchError if there are no configs."""
    return [*shipped_configs(), *LAYERS, *LOSSES]


def cases(
    target: str,
    overrides=(),
    batch: int = 4,
    seed: int | None = None,
    shapes: Sequence[tuple[int, ...]] = (),
) -> list[Case] | list[FunctionCase]:
    """The cases of a target, in float64 on the CPU. UsageError if it names nothing that can be checked.

    overrides  "a.b=v", for configs; large configs are made narrower too (NARROW)
    shapes     of the inputs, if `module:callable` returns none, or that of a torchvision model's
    """
    target = unicodedata.normalize("NFC", target).strip()
    if target in LOSSES:
        return [_loss_case(target, batch, seed or 0)]
    if target in LAYERS:
        return _layer_cases(target, seed or 0)
    if target.endswith(".py"):
        raise UsageError(
            f'"{target}" is a file; name a callable in it, such as {Path(target).stem}:make_layer'
        )
    if target in config.shipped_configs() or target.endswith(".toml") or Path(target).is_file():
        path = config.find_config(target)
        return [_config_case(config.load(path, [*narrow(path), *overrides]), batch, seed)]
    if target.startswith(pretrained.PREFIX):
        torch.manual_seed(seed or 0)
        module = pretrained.model(target)
        x = torch.randn(_one_shape(target, shapes) or MODEL_INPUT, dtype=torch.float64)
        return [Case(target, from_torch(module), x, external=True, module=module)]
    if ":" in target:
        return _user_cases(target, seed or 0, shapes)
    known = [*config.shipped_configs(), *LAYERS, *LOSSES]
    raise UsageError(f'"{target}" is not a config, layer, loss or module:callable{nearest(target, known)}')


def _config_case(conf, batch, seed) -> Case:
    """A config's whole net with its loss, on random numbers."""
    seed = conf.seed if seed is None else seed
    shape, n_outputs = data.shapes(conf.data)
    net = make_net(conf, shape, n_outputs, seed)
    classes = len(shape) == 3  # the targets of images are classes, those of the toy sets numbers
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, *shape, generator=generator, dtype=torch.float64)
    if classes and conf.train.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    if classes:
        target = torch.randint(n_outputs, (batch,), generator=generator)
    else:
        target = torch.rand(batch, n_outputs, generator=generator, dtype=torch.float64)
    return Case(conf.name, net, x, make_loss(conf, classes), target, backend=conf.net.backend)


def _layer_cases(name: str, seed: int) -> list[Case]:
    torch.manual_seed(seed)
    made = examples(LAYERS[name])
    found = [Case(text, layer, torch.randn(shape, dtype=torch.float64)) for text, layer, shape in made]
    if not found:
        raise UsageError(f"{name}: has no examples to check")
    return found


def _loss_case(name: str, batch: int, seed: int) -> Case:
    """A loss after a layer that changes nothing, as a case needs a layer."""
    torch.manual_seed(seed)
    z = torch.randn(batch, 5, dtype=torch.float64)
    return Case(name, Scale(1.0), z, LOSSES[name](), torch.randint(5, (batch,)))


def _user_cases(target: str, seed: int, shapes: Sequence[tuple[int, ...]]) -> list[Case] | list[FunctionCase]:
    """The layer, torch.nn model or function that a user's module:callable returns."""
    torch.manual_seed(seed)
    made = _made(target)
    parts: list[Any] = list(made) if isinstance(made, tuple) and made else [made]
    own = 2 if len(parts) > 1 and _are_functions(parts[:2]) else 1
    f, inputs = (tuple(parts[:2]) if own == 2 else parts[0]), tuple(parts[own:])
    layer = f
    if isinstance(f, nn.Module) and len(inputs) <= 1 and len(shapes) <= 1:
        with contextlib.suppress(ModuleError):  # with parts that no layer has: a function
            layer = from_torch(f)
    if _are_functions((layer,)) or isinstance(layer, tuple):
        return [FunctionCase(target, f, tuple(inputs) or _drawn(target, shapes))]
    if len(parts) > 2 or not all(callable(getattr(layer, what, None)) for what in ("forward", "backward")):
        raise UsageError(f"{target}: must return a layer or a function, alone or with its inputs")
    if not isinstance(layer, Layer):
        raise UsageError(f"{target}: {type(layer).__name__} must be a subclass of nets.layers.base.Layer")
    x, *_ = inputs or _drawn(target, shapes and [_one_shape(target, shapes)])
    if not isinstance(x, torch.Tensor):
        raise UsageError(f"{target}: x must be a tensor, not a {type(x).__name__}")
    module = f if isinstance(f, nn.Module) else None
    return [Case(target, layer, x.detach(), external=True, module=module)]


def _are_functions(values: Sequence) -> bool:
    """Whether they are two functions (forward and backward), or one that isn't a layer."""
    return len(values) > 0 and all(callable(v) and not hasattr(v, "params") for v in values)


def _drawn(target: str, shapes: Sequence) -> tuple[torch.Tensor, ...]:
    """Random inputs of these shapes."""
    if not shapes:
        raise UsageError(f"{target}: needs an input; return (layer, x) or give --shape, such as 4,3,8,8")
    try:
        return tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes)
    except RuntimeError as e:
        raise UsageError(f"--shape: {describe(e)}") from None


def _one_shape(target: str, shapes: Sequence) -> Any:
    if len(shapes) > 1:
        raise UsageError(f"{target}: has one input, got {len(shapes)} times --shape")
    return shapes[0] if shapes else None


def _made(target: str) -> Any:
    """What a user's module:callable returns. UsageError in one line whatever goes wrong in it."""
    module, _, name = target.partition(":")
    if module.endswith(".py") or os.sep in module:
        stem = Path(module).stem
        raise UsageError(
            f"{target}: write {stem}:{name or 'CALLABLE'}, and run the command in the file's folder"
        )
    if not module or not name:
        raise UsageError(f"{target}: write module:callable")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
        return found if _is_subject(found) else found()
    except (KeyboardInterrupt, Stopped):
        raise
    except BaseException as e:
        raise UsageError(f"{target}: {describe(e)}") from None


def _is_subject(found: Any) -> bool:
    """Whether what a name stands for is checked itself, and isn't called to make something."""
    if isinstance(found, (Layer, nn.Module, tuple)):
        return True
    owner = found if isinstance(found, type) else getattr(found, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
        return True
    try:
        params = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return False
    return not isinstance(found, type) and any(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in params
    )
