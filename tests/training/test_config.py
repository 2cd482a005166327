"""Configs: read back as written, and whatever is wrong is named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nets.common.errors import DataError, UsageError
from nets.training import config

CONFIGS = sorted(Path(__file__).parents[2].glob("configs/*.toml"))

MINIMAL = '[net]\nlayers = ["Flatten", { type = "Linear", out_features = 10 }]\n'


def write(tmp_path, text):
    path = tmp_path / "c.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_shipped_configs_survive_a_round_trip(path, tmp_path):
    conf = config.load(path)
    assert conf.name == path.stem
    assert config.load(write(tmp_path, config.dumps(conf))) == conf


@given(st.text(max_size=30).filter(str.isprintable), st.floats(0, 1), st.integers(0, 2**62))
def test_any_words_and_numbers_survive_a_round_trip(tmp_path_factory, root, smoothing, seed):
    import dataclasses

    base = config.load(CONFIGS[0])
    conf = dataclasses.replace(
        base,
        seed=seed,
        data=dataclasses.replace(base.data, root=root),
        train=dataclasses.replace(base.train, label_smoothing=smoothing),
    )
    path = tmp_path_factory.mktemp("round") / "c.toml"
    path.write_text(config.dumps(conf), encoding="utf-8")
    assert config.load(path) == conf


def test_overrides(tmp_path):
    path = write(tmp_path, MINIMAL)
    over = ["train.lr=2", "data.source=cifar10", 'name="x y"', "train.nesterov=true", "train.momentum=0.5"]
    conf = config.load(path, over)
    assert (conf.train.lr, conf.data.source, conf.name) == (2.0, "cifar10", "x y")
    assert conf.train.nesterov is True and conf.seed == 0
    with pytest.raises(AttributeError):
        conf.train.lr = 3  # frozen


@pytest.mark.parametrize(
    "override, message",
    [
        ("train.lrr=1", 'train.lrr: unknown key; did you mean "lr"?'),
        ("trian.lr=1", 'trian: unknown key; did you mean "train"?'),
        ("train.lr=fast", "train.lr: expected a number"),
        ("train.lr=-1", "train.lr: must be more than 0, got -1"),
        ("train.lr=nan", "train.lr: expected a finite number"),
        ("train.epochs=1.5", "train.epochs: expected a whole number"),
        ("train.epochs=true", "train.epochs: expected a whole number"),
        ("train.epochs=0", "train.epochs: must be at least 1"),
        ("train.nesterov=1", "train.nesterov: expected true or false"),
        ("train.dtype=bfloat61", 'did you mean "bfloat16"?'),
        ("train.label_smoothing=1.5", "train.label_smoothing: must be at most 1"),
        ("data.source=cifar", 'did you mean "cifar10'),
        ("data=3", "data: expected a table"),
        ("net.layers=[]", "net.layers"),
        ("net.layers=3", "net.layers: expected a list"),
        ("name=a/b", "name:"),
        ("seed=99999999999999999999", "seed: "),
        ("seed=-1", "seed: must be at least 0"),
        ("seed=" + "1" * 5000, "seed: expected a whole number"),
        ("train.lr=1\nzzz=3", "is not plain text"),
        ('name="a\\u0000b"', "is not plain text"),
        ("data.root=\udcff", "data.root: '\\udcff' is not plain text"),
        ("data.size=2147483648", "data.size: must be at most 4096"),
        ("train.lr", "--set train.lr: write it as key=value"),
        ("seed.x=1", "--set seed.x=1: seed is a value"),
        (
            'train.param_groups=[{match=["*.bias"], lr_scal=1}]',
            'train.param_groups[0].lr_scal: unknown key; did you mean "lr_scale"?',
        ),
        ("train.param_groups=[{lr_scale=1}]", "train.param_groups[0].match"),
        (
            'train.param_groups=[{match=["*"], lr_scale=-1}]',
            "train.param_groups[0].lr_scale: must be at least 0",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, override, message):
    path = write(tmp_path, "seed = 0\n" + MINIMAL)
    with pytest.raises(UsageError) as e:
        config.load(path, [override])
    assert message in str(e.value)


@pytest.mark.parametrize("text", ["a = ", "\x00", "[net", 'x = "' + "[" * 10])
def test_what_is_no_toml(tmp_path, text):
    with pytest.raises(UsageError, match=r"c\.toml"):
        config.load(write(tmp_path, text))


def test_deep_nesting_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"c\.toml"):
        config.load(write(tmp_path, "x = " + "[" * 100_000))


def test_a_missing_and_a_binary_file(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere.toml: no such file$"):
        config.load(tmp_path / "nowhere.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"b\.toml"):
        config.load(tmp_path / "b.toml")


def test_an_override_may_have_spaces_and_numbers_as_people_write_them(tmp_path):
    path = write(tmp_path, MINIMAL)
    over = ["train.lr = .05", "train.nesterov=True", "train.momentum=1.", "data.source = cifar10"]
    groups = 'train.param_groups=[{match=["*.bias"], lr_scale=.5, weight_decay=0.}]'
    t = config.load(path, [*over, groups]).train
    assert (t.lr, t.nesterov, t.momentum) == (0.05, True, 1.0)
    assert t.param_groups == ({"match": ["*.bias"], "lr_scale": 0.5, "weight_decay": 0.0},)
    assert config.load(path, ["name=a.1"]).name == "a.1"


def test_a_custom_layer_type_is_read(tmp_path):
    own = 'net.layers=["Flatten", { type = "mine:RMSNorm", eps = 1e-6 }]'
    conf = config.load(write(tmp_path, MINIMAL), [own])
    assert conf.net.layers[1] == {"type": "mine:RMSNorm", "eps": 1e-6}
    assert config.load(write(tmp_path, config.dumps(conf))) == conf


def test_a_config_is_found_by_path_or_by_the_name_of_a_shipped_one(tmp_path, monkeypatch):
    assert config.shipped_configs() == {path.stem: path for path in CONFIGS}
    monkeypatch.chdir(tmp_path)
    assert config.find_config("digits") == next(p for p in CONFIGS if p.stem == "digits")
    assert config.load("digits").name == "digits"
    (tmp_path / "cross").mkdir()  # such as a run's folder
    assert config.find_config("cross").suffix == ".toml"
    own = tmp_path / "digits"
    own.write_text(MINIMAL)
    assert config.find_config("digits").read_text() == MINIMAL
    for name, hint in (
        ("cifar", "cifar10"),
        ("\0", "digits"),
        ("x" * 5000, "digits"),
    ):
        with pytest.raises(UsageError, match=f"no such file, and no shipped config has this name; .*{hint}"):
            config.find_config(name)
    with pytest.raises(UsageError, match=r'^config configs/dens.toml: no such file; did you mean "dense"\?$'):
        config.find_config("configs/dens.toml")


def test_a_wheel_has_its_configs_inside_the_package(tmp_path, monkeypatch):
    (tmp_path / "nets/training").mkdir(parents=True)
    (tmp_path / "nets/configs").mkdir()
    (tmp_path / "nets/configs/mine.toml").write_text(MINIMAL)
    monkeypatch.setattr(config, "__file__", str(tmp_path / "nets/training/config.py"))
    assert config.shipped_configs() == {"mine": tmp_path / "nets/configs/mine.toml"}
    assert config.load("mine").name == "mine"


def test_a_home_folder_is_expanded_when_the_data_is_loaded(tmp_path, monkeypatch):
    from nets.data import datasets

    monkeypatch.setenv("HOME", str(tmp_path))
    conf = config.load("digits", ["data.source=folder", "data.root=~/pictures", "augment.crop_padding=0"])
    assert conf.data.root == "~/pictures"
    with pytest.raises(DataError, match=f"{tmp_path}/pictures"):
        datasets.load(conf.data)


def test_only_a_root_that_is_read_from_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    roots = [("folder", "a/b", f"{tmp_path}/a/b"), ("cifar10", "~/x", "/home/me/x"), ("folder", "/c", "/c")]
    for source, root, absolute in [*roots, ("digits", "data", "data")]:
        conf = config.Config(name="a", data=config.Data(source=source, root=root))
        assert config.with_absolute_root(conf).data.root == absolute


@pytest.mark.parametrize(
    "override, words",
    [
        ("distributed.batch_norm=global", "distributed.batch_norm"),
        ("distributed.reduce_dtype=float16", "distributed.reduce_dtype"),
        ("distributed.bucket_mb=0", "distributed.bucket_mb"),
        ("distributed.shard_optimizer=1", "distributed.shard_optimizer"),
        ("distributed.buckets=1", 'bucket_mb"?'),
    ],
)
def test_wrong_distributed_settings_are_named(override, words):
    with pytest.raises(UsageError) as e:
        config.load("digits", [override])
    assert words in str(e.value)


def test_only_sgd_is_sharded():
    for kind in ("muon", "adaptive"):
        with pytest.raises(
            UsageError, match=f"distributed.shard_optimizer: only for the optimizer sgd, not {kind}"
        ):
            config.load(
                "digits",
                ["distributed.shard_optimizer=true", f"train.optimizer={kind}"],
            )
    assert config.load("dense", ["distributed.shard_optimizer=true"]).distributed.shard_optimizer
