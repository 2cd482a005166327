"""What can be checked by name: a config, a layer, a model of torchvision, or somebody's `module:callable`."""

import importlib
import inspect
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from nets import losses as loss
from nets.common.errors import UsageError, nearest
from nets.convert import pretrained
from nets.convert.from_torch import from_torch
from nets.data import datasets as data
from nets.layers.base import Layer
from nets.layers.linear import Linear
from nets.training import config
from nets.training.build import LAYERS
from nets.training.make import make_loss, make_net

CONFIGS = Path(__file__).parents[2] / "configs"
LOSSES = {
    name: cls for name, cls in vars(loss).items() if inspect.isclass(cls) and cls.__module__ == loss.__name__
}

MODEL_INPUT = (2, 3, 64, 64)  # the smallest round size that all of torchvision's can take
# Each layer as it is easily got wrong: odd sizes, windows that overlap, and that leave a rest.
ROWS, PICTURES = (5, 6), (3, 4, 7, 8)
WINDOWS = [
    dict(kernel_size=3, stride=2, padding=1),
    dict(kernel_size=[3, 2], stride=[1, 2]),
    dict(kernel_size=2),
]
KERNELS = ("reference", "torch")
EXAMPLES = {
    "Linear": [(dict(inputs=6, outputs=3), ROWS), (dict(inputs=6, outputs=3, bias=False), (2, 3, 6))],
    "Scale": [(dict(factor=0.3), ROWS)],
    "GELU": [(dict(approximate=a, kernel=k), ROWS) for a in ("none", "tanh") for k in KERNELS],
    "SiLU": [(dict(kernel=k), ROWS) for k in KERNELS],
    "Flatten": [({}, PICTURES)],
    "Dropout": [(dict(p=0.3), ROWS)],
    "Whiten2d": [(dict(channels=4), PICTURES)],
    "GlobalAvgPool": [({}, PICTURES)],
    "GlobalMaxPool": [({}, PICTURES)],
    "AvgPool2d": [(options, PICTURES) for options in WINDOWS],
    "MaxPool2d": [(options | dict(kernel=k), PICTURES) for options in WINDOWS for k in KERNELS]
    + [(dict(kernel_size=2, dilation=2, kernel=k), PICTURES) for k in KERNELS],
    "AdaptiveAvgPool2d": [(dict(output_size=o), PICTURES) for o in (3, [7, 1], [9, 4])],
    "BatchNorm2d": [(dict(channels=4, affine=a, kernel=k), PICTURES) for a in (True, False) for k in KERNELS],
    "LocalResponseNorm": [
        (dict(size=n, alpha=0.5, k=k), (3, 7, 4, 5)) for n, k in ((5, 2.0), (2, 1.0), (9, 1.0))
    ],
    "Conv2d": [
        (dict(in_channels=4, out_channels=6, kernel=k) | options, PICTURES)
        for options in (*WINDOWS, dict(kernel_size=3, dilation=2, groups=2), dict(kernel_size=1, bias=False))
        for k in KERNELS
    ],
    "Sequential": [([Linear(6, 5), Linear(5, 3)], ROWS)],
    "Residual": [([Linear(6, 3), Linear(6, 3)], ROWS), ([Linear(6, 6)], ROWS)],
}


# Configs too large to be held in float64 many times over: the same layers, with fewer channels and pixels.
NARROW = {
    "alexnet": {
        "data.crop_size": 99,  # 24 × 24 places after the first convolution, 2 × 2 after the last pool
        "data.num_classes": 11,
        **{f"net.layers.{i}.out_channels": c for i, c in ((0, 8), (4, 16), (8, 12), (10, 12), (12, 8))},
        **{f"net.layers.{i}.outputs": n for i, n in ((17, 24), (20, 20), (22, 11))},
    },
    "cifar10_resnet": {
        **{f"net.layers.{i}.out_channels": c for i, c in ((0, 8), (3, 12), (8, 16), (12, 24))},
        **{f"net.layers.7.body.{i}.out_channels": 12 for i in (0, 3)},
        **{f"net.layers.16.body.{i}.out_channels": 24 for i in (0, 3)},
    },
}


def narrow(path) -> list[str]:
    """The overrides that make a config small enough to check, [] where it is small as it stands."""
    return [f"{key}={value}" for key, value in NARROW.get(Path(path).stem, {}).items()]


@dataclass
class Case:
    """One thing to check: a layer, on what, and the loss that ends it if there is one."""

    name: str
    layer: Layer
    x: Tensor
    loss: object = None
    target: Tensor | None = None
    tolerant: bool = field(default=False)  # an error in it is its author's, and told in one line
    module: nn.Module | None = None  # what the layer was made from, if from_torch made it

    def to(self, where: torch.device, dtype: torch.dtype) -> "Case":
        """The same case elsewhere: numbers in dtype, parameters in float32 at least."""
        self.layer.to(where, torch.promote_types(dtype, torch.float32))
        target = self.target
        if target is not None:
            target = target.to(where, dtype if target.is_floating_point() else target.dtype)
        x = self.x.to(where, dtype)
        if self.module is not None:
            self.module.to(where, torch.promote_types(dtype, torch.float32))
        return Case(self.name, self.layer, x, self.loss, target, self.tolerant, self.module)


def everything() -> list[str]:
    """The shipped configs, the layers and the losses."""
    return [str(p) for p in sorted(CONFIGS.glob("*.toml"))] + [*LAYERS, *LOSSES]


def cases(target: str, overrides=(), batch: int = 4, seed: int | None = None, shape=None) -> list[Case]:
    """What a target names, in float64 on the CPU. UsageError where it names nothing.

    overrides  "a.b=v", for configs, of which some are checked narrower than they are trained (NARROW)
    shape      of the input, where `module:callable` gives a layer alone; a torchvision model's
    """
    if target in LAYERS or target in LOSSES:
        torch.manual_seed(seed or 0)
        return [_loss_case(target, batch)] if target in LOSSES else list(_layer_cases(target))
    if target.endswith(".toml") or Path(target).is_file():
        return [_config_case(config.load(target, [*narrow(target), *overrides]), batch, seed)]
    if target.startswith(pretrained.PREFIX):
        torch.manual_seed(seed or 0)
        module = pretrained.model(target)
        x = torch.randn(shape or MODEL_INPUT, dtype=torch.float64)
        return [Case(target, from_torch(module), x, tolerant=True, module=module)]
    if ":" in target:
        return _own_cases(target, seed or 0, shape)
    known = [*LAYERS, *LOSSES, *(p.stem for p in CONFIGS.glob("*.toml"))]
    raise UsageError(
        f'"{target}" is no config (*.toml), layer, loss or module:callable{nearest(target, known)}'
    )


def _config_case(conf, batch, seed) -> Case:
    """A config's whole net, its loss included, on random pictures or numbers."""
    seed = conf.seed if seed is None else seed
    shape, n_outputs = data.shapes(conf.data)
    net = make_net(conf, shape, n_outputs, seed)
    classes = len(shape) == 3  # pictures have them, the toy sets want outputs
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, *shape, generator=generator, dtype=torch.float64)
    if classes and conf.train.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    if classes:
        target = torch.randint(n_outputs, (batch,), generator=generator)
    else:
        target = torch.rand(batch, n_outputs, generator=generator, dtype=torch.float64)
    return Case(conf.name, net, x, make_loss(conf, classes), target)


def _layer_cases(name):
    for options, shape in EXAMPLES.get(name, [({}, ROWS)]):
        nested = isinstance(options, list)
        layer = LAYERS[name](*options) if nested else LAYERS[name](**options)
        text = "" if nested else ", ".join(f"{k}={v}" for k, v in options.items())
        yield Case(f"{name}({text})", layer, torch.randn(shape, dtype=torch.float64))


def _loss_case(name, batch) -> Case:
    """A loss needs something before it: a layer that does nothing."""
    z = torch.randn(batch, 5, dtype=torch.float64)
    return Case(name, LAYERS["Scale"](1.0), z, LOSSES[name](), torch.randint(5, (batch,)))


def _own_cases(target, seed, shape) -> list[Case]:
    module, _, name = target.partition(":")
    sys.path.insert(0, os.getcwd())
    torch.manual_seed(seed)
    try:
        made = getattr(importlib.import_module(module), name)()
    except Exception as e:
        raise UsageError(f"{target}: {told(e)}") from None
    layer, x = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    module = layer if isinstance(layer, nn.Module) else None
    if module is not None:
        layer = from_torch(module)
    if not all(callable(getattr(layer, what, None)) for what in ("forward", "backward")):
        raise UsageError(f"{target}: gives no layer, with a forward and a backward, nor (layer, x)")
    if not isinstance(layer, Layer):
        raise UsageError(
            f"{target}: {type(layer).__name__} isn't a nets.layers.base.Layer; derive it from that"
        )
    if x is None and shape is None:
        raise UsageError(f"{target}: what does it take? Return (layer, x), or give --shape, such as 4,3,8,8")
    x = torch.randn(shape, dtype=torch.float64) if x is None else x.detach()
    return [Case(target, layer, x, tolerant=True, module=module)]


def told(e: Exception) -> str:
    """An error of somebody's own code in one line: what, and where."""
    trace, place = e.__traceback__, ""
    while trace:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith("<"):
            place = f" ({Path(code.co_filename).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(e).__name__}: {e}{place}"
