"""nets train: its files, its output, and how it fails."""

import json
import re
import resource
import signal
import subprocess
import sys
import time
import tomllib

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from nets.common import tensorfile
from nets.kernels import native
from tests.shell import QUICK, ROOT, last_line, shell

RUN_FILES = {"config.toml", "metrics.jsonl", "times.jsonl", "last.safetensors", "lock"}
RUN_FILES |= {"result.json", "curves.png"}


def test_train_writes_a_run(digits):
    run, printed = digits
    assert {p.name for p in run.iterdir()} == RUN_FILES | {"top5.png"}
    assert re.fullmatch(
        r"top-1 \d+\.\d%  top-5 \d+\.\d%  \(chance 10\.0%, 50\.0%\)  360 test images\n", last_line(printed)
    )
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in rows] == [1, 2] and rows[1]["loss"] < rows[0]["loss"]
    result = json.loads((run / "result.json").read_text())
    assert f"top-1 {result['top1']:.1%}" in last_line(printed) and result["top1"] == rows[-1]["top1"] > 0.5
    assert result["chance"] == {"top1": 0.1, "top5": 0.5} and 0.9 < result["top5"] <= 1
    tensors = load_file(run / "last.safetensors")
    sizes = [t.numel() for k, t in tensors.items() if k.startswith("net.") and "running" not in k]
    assert result["parameters"] == sum(sizes)
    assert result["device"] == "cpu" and result["dtype"] == "float32" and result["seed"] == 0
    assert result["backend"] == ("torch" if native.library() is None else "native")
    assert result["versions"]["torch"] == torch.__version__
    assert tomllib.loads((run / "config.toml").read_text())["train"]["epochs"] == 2
    for name in ("curves.png", "top5.png"):
        with Image.open(run / name) as image:
            assert image.width > 300 and len(image.getcolors(2**24)) > 20


def test_the_same_seed_gives_the_same_weights(digits, tmp_path):
    run, _ = digits
    shell("train", *QUICK, "--out", tmp_path)
    shell("train", *QUICK, "--out", tmp_path, "--seed", 1, "--set", "name=other")
    first, again, other = (
        load_file(p / "last.safetensors") for p in (run, tmp_path / "digits", tmp_path / "other")
    )
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["net.0.weight"], other["net.0.weight"])


@pytest.mark.parametrize("name", ["two_weight", pytest.param("cross", marks=pytest.mark.deep)])
def test_the_lectures_configs_learn(name, tmp_path):
    printed = last_line(shell("train", ROOT / "configs" / f"{name}.toml", "--out", tmp_path))
    samples = {"two_weight": 2, "cross": 4}[name]
    assert re.fullmatch(rf"largest error 0\.0\d+  within 0\.1: {samples} of {samples} samples\n", printed)
    assert {p.name for p in (tmp_path / name).iterdir()} == RUN_FILES
    assert shell("eval", tmp_path / name) == printed


def test_eval_every_2_tests_every_second_epoch_and_the_last(tmp_path):
    args = ["configs/two_weight.toml", "--set", "train.epochs=5", "--set", "train.eval_every=2"]
    shell("train", *args, "--out", tmp_path)
    rows = [json.loads(s) for s in (tmp_path / "two_weight/metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in rows if "within" in r] == [2, 4, 5]
    assert (tmp_path / "two_weight/curves.png").exists()


def test_a_dense_net_learns_with_the_performance_loss(tmp_path):
    printed = last_line(shell("train", "configs/dense.toml", "--set", "train.epochs=5", "--out", tmp_path))
    assert float(re.search(r"top-1 (\d+\.\d)%", printed)[1]) > 50
    rows = [json.loads(s) for s in (tmp_path / "dense/metrics.jsonl").read_text().splitlines()]
    assert rows[0]["loss"] < rows[-1]["loss"] < 0


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Three classes that color tells apart, as folders of pictures."""
    root, rng = tmp_path_factory.mktemp("tree"), np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 4)):
        for k, name in enumerate(("red", "green", "blue")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (32, 32, 3), np.uint8)
                pixels[..., k] += 120
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def test_cifar10_on_a_tree_with_three_classes(tree, tmp_path):
    """configs/cifar10.toml on a tree of folders: bfloat16, and no top-5 of three."""
    args = ["--set", "train.batch_size=20", "--set", "train.epochs=3", "--set", "train.warmup_epochs=1"]
    layers = tomllib.loads((ROOT / "configs/cifar10.toml").read_text())["net"]["layers"]
    assert layers[-2]["out_features"] == 10
    text = (ROOT / "configs/cifar10.toml").read_text().replace("out_features = 10", "out_features = 3")
    (tmp_path / "small.toml").write_text(text)
    printed = last_line(
        shell("train", tmp_path / "small.toml", "--data-root", tree, "--out", tmp_path, *args)
    )
    assert re.search(r"top-1 \d+\.\d%  \(chance 33\.3%\)  12 test images", printed)
    result = json.loads((tmp_path / "small/result.json").read_text())
    assert result["dtype"] == "bfloat16" and result["chance"].keys() == {"top1"}
    assert list(result["per_class"]) == ["blue", "green", "red"]
    weights = load_file(tmp_path / "small/last.safetensors")
    assert all(t.dtype == torch.float32 for k, t in weights.items() if k.startswith("net."))
    assert shell("eval", tmp_path / "small", "--data-root", tree).endswith(printed)


def test_cifar100_on_a_tree_with_a_hundred_classes(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for k in range(100):
            (tmp_path / split / f"{k:02}").mkdir(parents=True)
            pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / f"{k:02}" / "a.png")
    args = ["--set", "train.batch_size=50", "--set", "train.epochs=1", "--out", tmp_path]
    printed = last_line(shell("train", "configs/cifar100.toml", "--data-root", tmp_path, *args))
    assert re.fullmatch(r"top-1 .*%  top-5 .*%  \(chance 1\.0%, 5\.0%\)  100 test images\n", printed)
    assert (tmp_path / "cifar100/top5.png").exists()


@pytest.mark.parametrize(
    "args, code, message",
    [
        (["nowhere.toml"], 2, "config nowhere.toml: no such file"),
        (["--set", "train.lrr=1"], 2, 'did you mean "lr"?'),
        (["--set", "train.lr=-1"], 2, "train.lr: must be more than 0"),
        (["--set", 'net.layers=["Flaten"]'], 2, 'did you mean "Flatten"?'),
        (["--set", 'net.layers=["Flatten"]'], 2, "the net gives 64 numbers, digits has 10 classes"),
        (["configs/cross.toml", "--set", "net.layers.-2.out_features=3"], 2, "half_adder needs 2; set net."),
        (["--set", "augment.crop_padding=8"], 2, "augment.crop_padding: 8 is too much"),
        (
            ["configs/cross.toml", "--set", "augment.cutout=2"],
            2,
            "augment.cutout: half_adder has no images",
        ),
        (["--set", "train.optimizer=adaptive", "--set", "augment.crop_padding=0"], 2, "train.momentum"),
        (["configs/dense.toml", "--set", "train.optimizer=adaptive"], 2, "needs all 1437 samples"),
        (["configs/dense.toml", "--set", "train.label_smoothing=0.1"], 2, "only for the loss cross_entropy"),
        (["configs/two_weight.toml", "--set", 'net.layers=["Sigmoid"]'], 2, "no parameters to train"),
        (["--device", "cuda:"], 2, "--device cuda:"),
        (["--data-root", "a\udcff"], 2, "data.root"),
        (["configs/cross.toml", "--set", "train.loss=cross_entropy"], 2, "half_adder has no classes"),
        (["--device", "cuda:99"], 2, "CUDA device"),
        (["--device", "tpu"], 2, "--device tpu"),
        (["--nonsense"], 2, "--nonsense"),
        (["--seed", "x"], 2, "--seed"),
        (["--set", "data.source=folder", "--data-root", "nowhere"], 3, "nowhere: no such folder"),
    ],
)
def test_an_error_is_one_line_and_writes_nothing(args, code, message, tmp_path):
    assert message in shell("train", *args, "--out", tmp_path / "runs", code=code)
    assert not (tmp_path / "runs").exists()


def test_batch_norm_refuses_a_batch_of_one_value_a_channel(tmp_path):
    conv = '{ type = "Conv2d", out_channels = 10, kernel_size = 8 }'
    layers = f'net.layers=[{conv}, "BatchNorm2d", "Flatten"]'
    args = ["--set", layers, "--set", "train.batch_size=1", "--out", tmp_path, "--device", "cpu"]
    assert "more than one value a channel" in shell("train", *args, code=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_a_cuda_device(tmp_path):
    error = shell("train", "--device", "cuda", "--out", tmp_path / "runs", code=2)
    assert "no CUDA device" in error and not (tmp_path / "runs").exists()


def test_a_nonfinite_loss_stops_the_run(tmp_path):
    error = shell("train", "--set", "train.lr=1e30", "--out", tmp_path, code=5)
    assert "the loss became" in error and "train.lr" in error
    bad = json.loads((tmp_path / "digits/nonfinite.json").read_text())
    assert bad["epoch"] == 1 and bad["step"] > 1 and len(set(bad["samples"])) == 64
    assert "at step 2 of epoch 1" in shell(
        "train", "--set", "train.lr=1e30", "--out", tmp_path, "--resume", code=5
    )


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    error = shell("train", *QUICK, "--out", tmp_path / "file", code=3)
    assert "file" in error


def test_a_checkpoint_that_exceeds_the_file_size_limit(tmp_path):
    """As on a full disk: the old files stay, and no partial file is left."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    args = [sys.executable, "train.py", *QUICK, "--out", tmp_path]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, preexec_fn=limit)
    path = tmp_path / "digits/last.safetensors"
    assert (done.returncode, done.stderr) == (3, f"error: {path}: File too large\n")
    assert not path.exists() and not list(path.parent.glob("*.part"))


def test_train_py_does_the_same(tmp_path):
    args = [sys.executable, "train.py", "--set", "train.lr=-1", "--out", tmp_path]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "error: train.lr: must be more than 0, got -1.0\n"


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_with_a_checkpoint(number, code, tmp_path):
    args = [sys.executable, "train.py", "--set", "train.epochs=10000", "--out", str(tmp_path)]
    with subprocess.Popen(args, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        log = tmp_path / "digits/metrics.jsonl"
        begin = time.monotonic()
        while not (log.exists() and log.stat().st_size) and time.monotonic() - begin < 100:
            time.sleep(0.1)
        process.send_signal(number)
        error = process.communicate(timeout=60)[1]
    assert process.returncode == code
    name = {130: "interrupted", 143: "terminated"}[code]
    assert re.fullmatch(rf"error: {name} at step \d+ of 220000; resume with --resume\n", error), error
    assert tensorfile.read(tmp_path / "digits/last.safetensors")[1]["progress"]["step"] >= 0
    assert "a run that isn't finished" in shell("train", "--out", tmp_path, code=2)
