"""Rules of what goes with what: every one is broken once, and named."""

import dataclasses
import inspect
from collections import Counter

import pytest
import torch

from nets.common.errors import UsageError
from nets.layers.activations import ReLU
from nets.layers.containers import Residual, Sequential
from nets.layers.conv import Conv2d
from nets.layers.linear import Flatten, Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.whiten import Whiten2d
from nets.training import config, validate
from nets.training.run import Run

DIGITS = config.load("digits")

ADAPTIVE = {
    "train.optimizer": "adaptive",
    "train.momentum": 0.0,
    "train.nesterov": False,
    "train.weight_decay": 0.0,
}

ADAPTIVE |= {"augment.crop_padding": 0}

NET = Sequential(Flatten(), Linear(64, 10))
FACTS = dict(
    shape=(1, 8, 8),
    images=True,
    classes=True,
    streamed=False,
    samples=100,
    batch=10,
    net=NET,
    params=NET.params,
)
FACTS |= dict(output=(10,), targets=10)
LOW = {"shape": (2,), "images": False, "net": Sequential(Linear(2, 2))}  # no images


def changed(values) -> config.Config:
    """The digits config with other values: dotted key -> value."""
    conf = DIGITS
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        if section:
            part = dataclasses.replace(getattr(conf, section), **{name: value})
            conf = dataclasses.replace(conf, **{section: part})
        else:
            conf = dataclasses.replace(conf, **{name: value})
    return conf


# values of the config, facts, what is said
LOADER = {"loader": True, "streamed": True, "shape": (3, 8, 8)}
NOT_WITH_A_LOADER = {
    "augment.crop_padding": 2,
    "augment.random_resized_crop": 0.5,
    "augment.flip": "random",
    "augment.color_jitter": 0.1,
    "augment.cutout": 2,
    "train.skip_fraction": 0.5,
    "train.progressive_sizes": (8,),
    "data.validation": 0.1,
}
BROKEN = [
    *(
        ({"augment.crop_padding": 0, "data.size": 8, key: value}, LOADER, f"{key}: not with a DataLoader")
        for key, value in NOT_WITH_A_LOADER.items()
    ),
    ({}, {"batch": 2, "processes": 3}, "train.batch_size: 2 samples are too few for 3 processes"),
    (
        ADAPTIVE,
        {"autograd": True, "batch": 100},
        "train.optimizer: adaptive has no autograd form; only --forms manual can be timed",
    ),
    *(
        ({"name": name}, {}, f'name: a folder can\'t be called "{name}"')
        for name in ("", "a/b", "a\\b", ".", "..")
    ),
    ({"net.layers": ()}, {}, "net.layers: a net needs at least one layer"),
    ({"data.crop_size": 4}, {}, 'data.crop_size: only for data.source = "folder", not digits'),
    ({"data.num_classes": 4}, {}, 'data.num_classes: only for data.source = "folder", not digits'),
    ({"data.normalize": "mean"}, {}, 'data.normalize: only for data.source = "folder", not digits'),
    (
        {"data.source": "folder", "data.size": 8, "data.crop_size": 9, "augment.crop_padding": 0},
        {},
        "data.crop_size: 9 is more than data.size, 8",
    ),
    (
        {"data.source": "folder", "data.size": 8, "data.crop_size": 8},
        {},
        "augment.crop_padding: data.crop_size shifts the images already",
    ),
    (
        {"augment.random_resized_crop": 0.5},
        {},
        "augment.random_resized_crop: needs data.size, the side to which crops are scaled",
    ),
    (
        {"train.loss": "mse"},
        {},
        "train.label_smoothing: only for the loss cross_entropy, not mse",
    ),
    (
        {"train.loss": "performance", "train.label_smoothing": 0.0, "train.reduction": "sum"},
        {},
        "train.reduction: only for the loss cross_entropy, not performance",
    ),
    *(
        (
            ADAPTIVE | {f"train.{key}": value},
            {},
            f"train.{key}: the adaptive optimizer has none; leave it out",
        )
        for key, value in (
            ("momentum", 0.5),
            ("nesterov", True),
            ("weight_decay", 0.1),
            ("param_groups", ({"match": ["*"]},)),
        )
    ),
    *(
        (
            ADAPTIVE | given,
            {},
            f"{next(iter(given))}: the adaptive optimizer needs the same samples in every step",
        )
        for given in (
            {"augment.crop_padding": 1},
            {"augment.random_resized_crop": 0.5, "data.size": 8},
            {"augment.flip": "random"},
            {"augment.color_jitter": 0.1},
            {"augment.cutout": 2},
            {"data.crop_size": 4, "data.size": 8, "data.source": "folder"},
            {"train.progressive_sizes": (8,)},
            {"train.skip_fraction": 0.1},
        )
    ),
    ({"train.min_lr": 0.2}, {}, "train.min_lr: 0.2 is more than train.lr, 0.1"),
    (
        {"distributed.shard_optimizer": True, "train.optimizer": "muon"},
        {},
        "distributed.shard_optimizer: only for the optimizer sgd, not muon",
    ),
    *(
        ({"augment.crop_padding": 0} | given, LOW, f"{next(iter(given))}: digits has no images")
        for given in (
            {"augment.crop_padding": 1},
            {"augment.random_resized_crop": 0.5, "data.size": 8},
            {"augment.flip": "random"},
            {"augment.color_jitter": 0.1},
            {"augment.cutout": 2},
            {"train.progressive_sizes": (8,)},
            {"train.skip_fraction": 0.1},
            {"eval.tta": "flip"},
        )
    ),
    (
        {"data.crop_size": 4, "data.size": 8, "data.source": "folder", "augment.crop_padding": 0},
        LOW,
        "data.crop_size: folder has no images",
    ),
    ({"augment.color_jitter": 0.1}, {}, "augment.color_jitter: gray images have no colors"),
    ({"augment.crop_padding": 8}, {}, "augment.crop_padding: 8 is too much for images of 8 × 8"),
    (
        {"augment.crop_padding": 8},
        {"shape": (1, 8, 9)},
        "augment.crop_padding: 8 is too much for images of 9 × 8",
    ),
    (
        {"augment.random_resized_crop": 0.5, "data.size": 8},
        {},
        "augment.random_resized_crop: digits is not read from a folder of images",
    ),
    ({}, {"classes": False}, 'train.loss: digits has no classes; use "performance" or "mse"'),
    (ADAPTIVE, {}, "train.batch_size: the adaptive optimizer needs all 100 samples in every step"),
    ({}, {"output": (10, 2)}, "net.layers: the net gives 10 × 2 numbers, digits has 10 classes"),
    (
        {},
        {"targets": 11},
        "net.layers: the net gives 10 numbers, digits has 11 classes; set net.layers.13.out_features=11",
    ),
    ({}, {"params": {}}, "net.layers: the net has no parameters to train"),
    (
        {},
        {"net": Sequential(Conv2d(1, 2, 3), Whiten2d(2))},
        "net.layers: Whiten2d can only be the first layer",
    ),
    (
        {},
        {"net": Sequential(BatchNorm2d(1), Flatten()), "batch": 1, "shape": (1, 1, 1)},
        "augment.crop_padding: 1 is too much for images of 1 × 1",
    ),
    (
        {"augment.crop_padding": 0},
        {"net": Sequential(BatchNorm2d(1), Flatten()), "batch": 1, "shape": (1, 1, 1)},
        "train.batch_size: ",
    ),
    ({"train.progressive_sizes": (8, 7, 7)}, {}, "train.progressive_sizes: the net can't take 7 × 7: "),
]


@pytest.mark.parametrize("values, facts, message", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_rule_is_named(values, facts, message):
    with pytest.raises(UsageError) as e:
        validate.check(changed(values), **FACTS | facts)
    said = str(e.value)
    assert said.startswith(message) if message.endswith(": ") else said == message


def test_every_rule_is_broken_once():
    """Each key of each rule, by the words before its first value."""
    left = Counter()
    for rule in validate.RULES:
        for key in (rule.key,) if isinstance(rule.key, str) else rule.key:
            words = max((p for p in rule.why.replace("}", "{").split("{")[::2]), key=len)
            left[key, words] += not any(m.startswith(f"{key}: ") and words in m for *_, m in BROKEN)
    del left["train.batch_size", ""], left["train.progressive_sizes", "the net can't take "]
    assert not +left


def test_what_fits_is_not_refused():
    validate.check(DIGITS)
    validate.check(DIGITS, **FACTS)
    for path in config.shipped_configs().values():
        validate.check(config.load(path))
    validate.check(changed(ADAPTIVE), **FACTS | {"batch": 100})
    validate.check(changed({"train.progressive_sizes": (8, 8)}), **FACTS)
    validate.check(DIGITS, net=Sequential(Whiten2d(1), ReLU()))
    validate.check(DIGITS, net=Sequential(Residual(Sequential(Whiten2d(1)))))


def test_a_rule_is_checked_where_its_facts_are_known():
    conf = changed({"augment.color_jitter": 0.1})
    validate.check(conf, classes=True)
    with pytest.raises(UsageError, match="gray"):
        validate.check(conf, shape=(1, 8, 8))
    with pytest.raises(TypeError, match="no rule needs pictures"):
        validate.check(conf, pictures=True)


def test_the_rules_need_known_facts_and_all_facts_are_needed():
    needs = {fact for rule in validate.RULES for fact in [*inspect.signature(rule.wrong).parameters][1:]}
    assert needs == validate.FACTS.keys()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_net_is_tried_without_memory_and_stays_as_it_is(dtype):
    net = Sequential(Conv2d(3, 4, 3), BatchNorm2d(4), Conv2d(4, 4, 3)).to(dtype)
    before = {k: v.clone() for k, v in (net.params | net.buffers).items()}
    assert validate.refusal(net, (10**6, 3, 99, 99)) == ""
    assert "3" in validate.refusal(net, (2, 3, 2, 2))
    after = net.params | net.buffers
    assert all(torch.equal(before[k], v) and v.device.type == "cpu" for k, v in after.items())


def test_a_run_validates_before_it_writes(tmp_path):
    with pytest.raises(UsageError, match="gray images have no colors"):
        Run.from_config(changed({"augment.color_jitter": 0.1}), torch.device("cpu"), tmp_path / "run")
    with pytest.raises(UsageError, match=r"train\.progressive_sizes: the net can't take 3 × 3: a window"):
        Run.from_config(changed({"train.progressive_sizes": (3,)}), torch.device("cpu"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
