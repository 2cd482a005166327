"""Old names of config keys, their values and layer options, each with the name that replaced it."""

from nets.common.errors import UsageError

# [] stands for any index
RENAMED = {
    "data.crop": "augment.crop_padding",
    "data.flip": "augment.flip",
    "data.cutout": "augment.cutout",
    "data.color_jitter": "augment.color_jitter",
    "data.random_resized": "augment.random_resized_crop",
    "data.units": "data.normalize",
    "data.classes": "data.num_classes",
    "data.memory_limit": "data.memory_limit_mb",
    "data.workers": "data.num_workers",
    "net.kernel": "net.backend",
    "train.sizes": "train.progressive_sizes",
    "train.skip": "train.skip_fraction",
    "train.skip_after": "train.skip_after_epochs",
    "train.rate": "train.lr",
    "train.groups": "train.param_groups",
    "train.param_groups[].rate": "train.param_groups[].lr_scale",
    "train.param_groups[].until": "train.param_groups[].until_epoch",
    "train.warmup": "train.warmup_epochs",
    "train.floor": "train.min_lr",
    "train.nonfinite_limit": "train.max_nonfinite_steps",
    "eval.views": "eval.tta",
    "eval.doubtful": "eval.tta_fraction",
    "save.steps": "checkpoint.every_steps",
    "save.seconds": "checkpoint.every_seconds",
    "save": "checkpoint",
    "log.every": "log.every_steps",
    "parallel.batch_norm": "distributed.batch_norm",
    "parallel.reduce_dtype": "distributed.reduce_dtype",
    "parallel.shard": "distributed.shard_optimizer",
    "parallel.bucket_mb": "distributed.bucket_mb",
    "parallel": "distributed",
}

# new key -> old value -> new value
RENAMED_VALUES = {
    "data.normalize": {"deviations": "mean_std", "bytes": "mean"},
    "net.backend": {"written": "reference", "vendor": "torch"},
    "train.loss": {"mean_squared_error": "mse"},
    "eval.tta": {"one": "none", "mirror": "flip", "six": "six_view", "ten": "ten_crop"},
    "distributed.batch_norm": {"synchronised": "sync"},
}

# new key -> what else is new about it
CHANGED = {"train.min_lr": ", a learning rate: the old value times train.lr"}

# (layer, old option) -> new option
RENAMED_OPTIONS = {
    ("Linear", "inputs"): "in_features",
    ("Linear", "outputs"): "out_features",
    ("Linear", "spread"): "init_bound",
    ("Linear", "std"): "init_std",
    ("Linear", "bias_start"): "init_bias",
    ("Conv2d", "dirac"): "init_dirac",
    ("Conv2d", "std"): "init_std",
    ("Conv2d", "bias_start"): "init_bias",
    ("BatchNorm2d", "channels"): "num_features",
    ("Whiten2d", "channels"): "in_channels",
    **{(layer, "kernel"): "net.backend" for layer in ("Conv2d", "MaxPool2d", "BatchNorm2d", "GELU", "SiLU")},
}


def check_renamed(table: dict):
    """UsageError at the first old name in a config's table, with the new name."""
    for section, part in table.items():
        for key, value in part.items() if isinstance(part, dict) else ():
            _check(f"{section}.{key}", value)
            for i, item in enumerate(value) if isinstance(value, list) else ():
                for name in item if isinstance(item, dict) else ():
                    _check(f"{section}.{key}[].{name}", item[name], i)
        _check(section, part)


def _check(key: str, value, i: int = 0):
    new = RENAMED.get(key)
    values = RENAMED_VALUES.get(new or key, {})
    renamed = isinstance(value, str) and value in values
    place = f"[{i}]"
    if new:
        more = f', "{value}" to "{values[value]}"' if renamed else CHANGED.get(new, "")
        raise UsageError(f"{key}: renamed to {new}{more}".replace("[]", place))
    if renamed:
        raise UsageError(f'{key}: "{value}" renamed to "{values[value]}"'.replace("[]", place))
