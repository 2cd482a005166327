"""What goes with what: each rule about several keys, or about a key and the data or the net, in one table.

Types and ranges of single keys are in config.py.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from nets.common.errors import UsageError, first_line
from nets.layers.base import Layer

if TYPE_CHECKING:
    from nets.training.config import Config


class Rule(NamedTuple):
    """A key, or each of several, is refused where `wrong` returns something true.

    wrong  function of the config c, and of the facts that its parameters are named after
    why    format string for the reason; it may name c, the facts, and `it`, what `wrong` returned
    """

    key: str | tuple[str, ...]
    wrong: Callable[..., Any]
    why: str


# What a rule may need beside the config. A rule is checked where all its facts are known.
FACTS = {
    "used": "does the rule's key differ from its default? Always known",
    "shape": "of a sample, (C, H, W) or (inputs,)",
    "images": "are the samples images, as bytes?",
    "classes": "are the targets classes?",
    "streamed": "are images decoded while the net trains?",
    "loader": "does a DataLoader give the batches?",
    "processes": "number of processes",
    "autograd": "is autograd to train the net too?",
    "samples": "number of training samples",
    "batch": "number of samples in a step",
    "net": "the net",
    "params": "the net's parameters, by name",
    "output": "shape of the net's output for one sample",
    "targets": "number of outputs that the data needs",
}
AUGMENT = tuple(
    f"augment.{name}" for name in ("crop_padding", "random_resized_crop", "flip", "color_jitter", "cutout")
)
RULES = (
    # key, when it is wrong, why: the config
    Rule("name", lambda c: not is_folder_name(c.name), 'a folder can\'t be called "{c.name}"'),
    Rule("net.layers", lambda c: not c.net.layers, "a net needs at least one layer"),
    Rule(
        ("data.crop_size", "data.num_classes", "data.normalize"),
        lambda c, used: used and c.data.source != "folder",
        'only for data.source = "folder", not {c.data.source}',
    ),
    Rule(
        "data.crop_size",
        lambda c: c.data.crop_size > c.data.size,
        "{c.data.crop_size} is more than data.size, {c.data.size}",
    ),
    Rule(
        "augment.crop_padding",
        lambda c, used: used and c.data.crop_size,
        "data.crop_size shifts the images already",
    ),
    Rule(
        "augment.random_resized_crop",
        lambda c, used: used and not c.data.size,
        "needs data.size, the side to which crops are scaled",
    ),
    Rule(
        ("train.label_smoothing", "train.reduction"),
        lambda c, used: used and c.train.loss != "cross_entropy",
        "only for the loss cross_entropy, not {c.train.loss}",
    ),
    Rule(
        "distributed.shard_optimizer",
        lambda c, used: used and c.train.optimizer != "sgd",
        "only for the optimizer sgd, not {c.train.optimizer}",
    ),
    Rule(
        ("train.momentum", "train.nesterov", "train.weight_decay", "train.param_groups"),
        lambda c, used: used and c.train.optimizer == "adaptive",
        "the adaptive optimizer has none; leave it out",
    ),
    Rule(
        (*AUGMENT, "data.crop_size", "train.progressive_sizes", "train.skip_fraction"),
        lambda c, used: used and c.train.optimizer == "adaptive",
        "the adaptive optimizer needs the same samples in every step",
    ),
    Rule(
        "train.min_lr",
        lambda c: c.train.min_lr > c.train.lr,
        "{c.train.min_lr:g} is more than train.lr, {c.train.lr:g}",
    ),
    # the config and the data
    Rule(
        (*AUGMENT, "data.crop_size", "train.progressive_sizes", "eval.tta"),
        lambda c, used, images: used and not images,
        "{c.data.source} has no images",
    ),
    Rule(
        "train.skip_fraction",
        lambda c, used, shape: used and len(shape) != 3,
        "{c.data.source} has no images",
    ),
    Rule(
        "augment.color_jitter",
        lambda c, used, shape: used and shape[0] != 3,
        "gray images have no colors",
    ),
    Rule(
        "augment.crop_padding",
        lambda c, used, shape: used and c.augment.crop_padding >= min(shape[1:]),
        "{c.augment.crop_padding} is too much for images of {shape[2]} × {shape[1]}",
    ),
    Rule(
        "augment.random_resized_crop",
        lambda c, used, streamed: used and not streamed,
        "{c.data.source} is not read from a folder of images",
    ),
    Rule(
        "train.loss",
        lambda c, classes: c.train.loss == "cross_entropy" and not classes,
        '{c.data.source} has no classes; use "performance" or "mse"',
    ),
    Rule(
        "train.batch_size",
        lambda c, batch, samples: c.train.optimizer == "adaptive" and batch < samples,
        "the adaptive optimizer needs all {samples} samples in every step",
    ),
    Rule(
        (*AUGMENT, "train.skip_fraction", "train.progressive_sizes", "data.validation"),
        lambda c, used, loader: used and loader,
        "not with a DataLoader",
    ),
    Rule(
        "train.batch_size",
        lambda c, batch, processes: batch < processes,
        "{batch} samples are too few for {processes} processes",
    ),
    Rule(
        "train.optimizer",
        lambda c, autograd: autograd and c.train.optimizer == "adaptive",
        "adaptive has no autograd form; only --forms manual can be timed",
    ),
    # the config, the data and the net
    Rule(
        "net.layers",
        lambda c, output, targets: output != (targets,) and wrong_output(c, output, targets),
        "the net gives {it}",
    ),
    Rule("net.layers", lambda c, params: not params, "the net has no parameters to train"),
    Rule("net.layers", lambda c, net: fitted_inside(net), "{it} can only be the first layer"),
    Rule("train.batch_size", lambda c, net, batch, shape: refusal(net, (batch, *shape)), "{it}"),
    Rule(
        "train.progressive_sizes",
        lambda c, net, batch, shape: refused_size(c, net, batch, shape),
        "the net can't take {it}",
    ),
)


def check(c: Config, **facts: Any):
    """UsageError at the first rule that a config breaks, of those whose facts are known (see FACTS)."""
    if unknown := facts.keys() - FACTS:
        raise TypeError(f"no rule needs {', '.join(sorted(unknown))}")
    for rule in RULES:
        _, *needs = inspect.signature(rule.wrong).parameters
        for key in (rule.key,) if isinstance(rule.key, str) else rule.key:
            known = facts | {"used": used(c, key)}
            if all(fact in known for fact in needs):
                it = rule.wrong(c, **{fact: known[fact] for fact in needs})
                if it:
                    raise UsageError(f"{key}: " + rule.why.format(c=c, it=it, **facts))


def used(c: Config, key: str) -> bool:
    """Does a key's value differ from its default?"""
    *section, name = key.split(".")
    part: Any = getattr(c, section[0]) if section else None
    return part is not None and getattr(part, name) != getattr(type(part)(), name)


def is_folder_name(name: str) -> bool:
    return bool(name) and not {"/", "\\"} & {*name} and name not in (".", "..")


def size_text(shape) -> str:
    return " × ".join(map(str, shape))


def wrong_output(c: Config, output, targets: int) -> str:
    """What the net gives, what the data need, and the option that makes them equal, where one does."""
    classes = c.train.loss == "cross_entropy"
    why = f"{size_text(output)} numbers, {c.data.source} "
    why += f"has {targets} classes" if classes else f"needs {targets}"
    for i, layer in reversed([*enumerate(c.net.layers)]):
        for key in ("out_features", "out_channels"):
            if isinstance(layer, dict) and key in layer:
                return why + (f"; set net.layers.{i}.{key}={targets}" if output == (layer[key],) else "")
    return why


def fitted_inside(net: Layer) -> str:
    """The type of a layer that is fitted to the images, but isn't the net's first, or ""."""
    first = net.leaves()[0]
    found = (type(layer).__name__ for layer in net.walk() if hasattr(layer, "fit") and layer is not first)
    return next(found, "")


def refused_size(c: Config, net: Layer, batch: int, shape) -> str:
    """Which of train.progressive_sizes the net can't take, and why, or ""."""
    for side in dict.fromkeys(c.train.progressive_sizes):
        if why := refusal(net, (batch, shape[0], side, side)):
            return f"{side} × {side}: {why}"
    return ""


def refusal(net: Layer, shape) -> str:
    """Why a net can't take a batch of this shape, or "". A copy of the net without memory takes it."""
    tensors = [t for layer in net.walk() for t in (layer.params | layer.buffers).values()]
    attributes = [t for layer in net.walk() for t in vars(layer).values() if isinstance(t, torch.Tensor)]
    dtype = next((t.dtype for t in tensors if t.is_floating_point()), None)
    try:
        with torch.device("meta"):
            stand_in = copy.deepcopy(net, {id(t): t.to("meta") for t in [*tensors, *attributes]})
            stand_in.forward(torch.empty(shape, dtype=dtype))
    except Exception as e:  # a layer of one's own raises anything
        return first_line(e)
    return ""
