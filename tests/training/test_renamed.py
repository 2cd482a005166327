"""Old names: each is refused, in a file and in --set, with a new name that is known."""

import dataclasses
import inspect

import pytest

from nets.common.errors import UsageError
from nets.layers import LAYERS
from nets.optim.param_groups import GROUP_RANGES
from nets.training import config
from nets.training.build import build
from nets.training.renamed import CHANGED, RENAMED, RENAMED_OPTIONS, RENAMED_VALUES

NET = '[net]\nlayers = ["Flatten", { type = "Linear" }]\n'
KEYS = {k: v for k, v in RENAMED.items() if "." in k and "[]" not in k}
SECTIONS = {k: v for k, v in RENAMED.items() if "." not in k}
GROUP_KEYS = {k: v for k, v in RENAMED.items() if "[]" in k}
VALUES = [(key, old, new) for key, values in RENAMED_VALUES.items() for old, new in values.items()]

# The keys of version 0.1, copied from its config.py, with the values of those that have a list of them.
OF_VERSION_0_1 = {
    "data": {
        "source": ("digits", "cifar10", "cifar100", "folder", "identity", "half_adder"),
        "root": (),
        "size": (),
        "channels": (1, 3),
        "crop": (),
        "flip": ("none", "random", "alternating"),
        "cutout": (),
        "crop_size": (),
        "color_jitter": (),
        "units": ("deviations", "bytes"),
        "classes": (),
        "random_resized": (),
        "memory_limit": (),
        "workers": (),
        "on_error": ("stop", "skip"),
    },
    "net": {"layers": (), "kernel": ("written", "vendor", "native"), "recompute": ()},
    "train": {
        "epochs": (),
        "batch_size": (),
        "sizes": (),
        "skip": (),
        "skip_after": (),
        "loss": ("cross_entropy", "performance", "mean_squared_error"),
        "reduction": ("mean", "sum"),
        "label_smoothing": (),
        "optimizer": ("sgd", "muon", "adaptive"),
        "rate": (),
        "momentum": (),
        "nesterov": (),
        "weight_decay": (),
        "groups": (),
        "schedule": ("constant", "linear", "cosine", "step"),
        "warmup": (),
        "floor": (),
        "dtype": ("float32", "bfloat16", "float64"),
        "channels_last": (),
        "eval_every": (),
        "on_nonfinite": ("stop", "skip", "ignore"),
        "nonfinite_limit": (),
    },
    "eval": {"views": ("one", "mirror", "six", "corners", "ten"), "doubtful": ()},
    "save": {"steps": (), "seconds": ()},
    "log": {"every": (), "tensorboard": ()},
    "parallel": {
        "batch_norm": ("local", "synchronised"),
        "reduce_dtype": ("same", "bfloat16"),
        "shard": (),
        "bucket_mb": (),
    },
}
OLD_KEYS = [
    (f"{section}.{name}", values) for section, t in OF_VERSION_0_1.items() for name, values in t.items()
]


def refused(tmp_path, text, *overrides):
    """The error of a config."""
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(UsageError) as e:
        config.load(tmp_path / "c.toml", overrides)
    return str(e.value)


def known(key: str):
    """The field of a dotted key."""
    section, name = key.split(".")
    part = {f.name: f.type for f in dataclasses.fields(config.Config)}[section]
    return {f.name: f for f in dataclasses.fields(part)}[name]


@pytest.mark.parametrize("old, new", KEYS.items())
def test_an_old_key_is_refused_with_the_new_one(old, new, tmp_path):
    section, name = old.split(".")
    wanted = f"{old}: renamed to {new}{CHANGED.get(new, '')}"
    assert refused(tmp_path, f"{section}.{name} = 1\n" + (NET if section != "net" else "")) == wanted
    assert refused(tmp_path, NET, f"{old}=1") == wanted
    assert known(new)
    with pytest.raises(KeyError):
        known(old)


@pytest.mark.parametrize("old, new", SECTIONS.items())
def test_an_old_section_is_refused_with_the_new_one(old, new, tmp_path):
    assert refused(tmp_path, f"{NET}[{old}]\n") == f"{old}: renamed to {new}"
    assert refused(tmp_path, f"{NET}[{old}]\nno_key_ever = 1\n") == f"{old}: renamed to {new}"
    assert new in {f.name for f in dataclasses.fields(config.Config)}


@pytest.mark.parametrize("old, new", GROUP_KEYS.items())
def test_an_old_key_of_a_parameter_group_is_refused_with_the_new_one(old, new, tmp_path):
    name = old.split(".")[-1]
    wanted = f"{old}: renamed to {new}".replace("[]", "[1]")
    group = '[[train.param_groups]]\nmatch = ["*"]\n'
    assert refused(tmp_path, f"{NET}{group}{group}{name} = 1.0\n") == wanted
    assert refused(tmp_path, NET + group + group, f"train.param_groups.1.{name}=1") == wanted
    assert new.split(".")[-1] in {"match", *GROUP_RANGES} and name not in GROUP_RANGES


@pytest.mark.parametrize("key, old, new", VALUES)
def test_an_old_value_is_refused_with_the_new_one(key, old, new, tmp_path):
    assert refused(tmp_path, NET, f"{key}={old}") == f'{key}: "{old}" renamed to "{new}"'
    assert new in known(key).metadata["among"] and old not in known(key).metadata["among"]
    for before in (k for k, v in RENAMED.items() if v == key):
        wanted = f'{before}: renamed to {key}, "{old}" to "{new}"'
        assert refused(tmp_path, NET, f"{before}={old}") == wanted


@pytest.mark.parametrize("key, values", OLD_KEYS)
def test_every_key_and_value_of_version_0_1_is_known_or_renamed(key, values, tmp_path):
    new = RENAMED.get(key, key)
    for old in values:
        value = RENAMED_VALUES.get(new, {}).get(old, old)
        assert value in known(new).metadata["among"]
        if value != old:
            words = refused(tmp_path, NET, f"{key}={old}")
            assert f'"{old}"' in words and f'to "{value}"' in words
    assert known(new)


def test_the_table_of_old_names_has_only_names_of_version_0_1():
    old = dict(OLD_KEYS)
    before = {new: key for key, new in RENAMED.items()}
    assert KEYS.keys() | {before.get(key, key) for key in RENAMED_VALUES} <= old.keys()
    assert SECTIONS.keys() <= OF_VERSION_0_1.keys()
    for key, values in RENAMED_VALUES.items():
        assert values.keys() <= set(old[before.get(key, key)])


def test_an_old_config_is_refused_key_by_key(tmp_path):
    """Its keys are refused one after the other, until none is left."""
    text = (
        NET
        + '[train]\nrate = 0.1\nfloor = 0.5\nsizes = [8]\n[parallel]\nshard = true\n[data]\nunits = "bytes"\n'
    )
    for old, new in (("rate", "lr"), ("floor", "min_lr"), ("sizes", "progressive_sizes")):
        assert refused(tmp_path, text).startswith(f"train.{old}: renamed to train.{new}")
        text = text.replace(f"{old} =", f"{new} =")
    assert refused(tmp_path, text) == "parallel.shard: renamed to distributed.shard_optimizer"
    text = text.replace("[parallel]\nshard", "[distributed]\nshard_optimizer")
    assert refused(tmp_path, text) == 'data.units: renamed to data.normalize, "bytes" to "mean"'


@pytest.mark.parametrize("layer, old", RENAMED_OPTIONS)
def test_an_old_layer_option_is_refused_with_the_new_one(layer, old):
    new = RENAMED_OPTIONS[layer, old]
    options = inspect.signature(LAYERS[layer]).parameters
    assert (new in options or new in RENAMED.values()) and old not in options
    with pytest.raises(UsageError, match=rf"net.layers\[1\]: .*{layer}.*{old}.*{new}"):
        build(["ReLU", {"type": layer, old: 1}], (1, 8, 8))
