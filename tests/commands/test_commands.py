"""train.py and eval.py from the shell: what they write, what they print, how they fail."""

import contextlib
import io
import json
import os
import pickle
import re
import resource
import runpy
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from nets.common import tensorfile
from tests.data.test_pictures import BAD, scene

ROOT = Path(__file__).parents[2]
RUN_FILES = {"config.toml", "metrics.jsonl", "times.jsonl", "last.safetensors", "best.safetensors", "lock"}
RUN_FILES |= {"result.json", "curves.png"}
QUICK = ["--set", "train.epochs=2", "--device", "cpu"]


def shell(script, *args, code=0):
    """Run a script as from the shell, in this process; check its exit code, and that errors are one line."""
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = [script, *map(str, args)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(ROOT):
            runpy.run_path(script, run_name="__main__")
        left = 0
    except SystemExit as e:
        left = e.code
    finally:
        sys.argv = argv
    out, err = out.getvalue(), err.getvalue()
    assert left == code, err
    if code:
        assert err.count("\n") == 1 and err.startswith("error: "), err
    return err if code else out


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A digits run of two epochs: (its folder, what train.py printed)."""
    out = tmp_path_factory.mktemp("runs")
    return out / "digits", shell("train.py", *QUICK, "--out", out)


def test_train_writes_a_run(digits):
    run, printed = digits
    assert {p.name for p in run.iterdir()} == RUN_FILES | {"top5.png"}
    assert re.fullmatch(
        r"top-1 \d+\.\d%  top-5 \d+\.\d%  \(chance 10\.0%, 50\.0%\)  360 test pictures\n", printed
    )
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in rows] == [1, 2] and rows[1]["loss"] < rows[0]["loss"]
    result = json.loads((run / "result.json").read_text())
    assert f"top-1 {result['top1']:.1%}" in printed and result["top1"] == rows[-1]["top1"] > 0.5
    assert result["chance"] == {"top1": 0.1, "top5": 0.5} and 0.9 < result["top5"] <= 1
    tensors = load_file(run / "last.safetensors")
    sizes = [t.numel() for k, t in tensors.items() if k.startswith("net.") and "running" not in k]
    assert result["parameters"] == sum(sizes)
    assert result["device"] == "cpu" and result["dtype"] == "float32" and result["seed"] == 0
    assert result["versions"]["torch"] == torch.__version__
    assert tomllib.loads((run / "config.toml").read_text())["train"]["epochs"] == 2
    for name in ("curves.png", "top5.png"):
        with Image.open(run / name) as image:
            assert image.width > 300 and len(image.getcolors(2**24)) > 20


def test_the_same_seed_gives_the_same_weights(digits, tmp_path):
    run, _ = digits
    shell("train.py", *QUICK, "--out", tmp_path)
    shell("train.py", *QUICK, "--out", tmp_path, "--seed", 1, "--set", "name=other")
    first, again, other = (
        load_file(p / "last.safetensors") for p in (run, tmp_path / "digits", tmp_path / "other")
    )
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["net.0.weight"], other["net.0.weight"])


def test_eval_says_what_train_said(digits):
    run, printed = digits
    text = shell("eval.py", run, "--device", "cpu")
    assert text.endswith(printed)
    assert len(re.findall(r"^\d +\d+\.\d%$", text, re.M)) == 10
    found = json.loads(shell("eval.py", run, "--json"))
    assert found["top1"] == json.loads((run / "result.json").read_text())["top1"]
    assert found["top5"] >= found["top1"] and found["count"] == 360
    assert np.mean(list(found["per_class"].values())) == pytest.approx(found["top1"], abs=0.01)


def test_eval_guesses_at_pictures_of_any_size(digits, tmp_path):
    run, _ = digits
    Image.new("RGB", (300, 200), "white").save(tmp_path / "a.png")
    Image.new("RGBA", (3, 5)).save(tmp_path / "b.png")
    text = shell("eval.py", run, tmp_path / "a.png", tmp_path / "b.png")
    assert len(re.findall(r"^  \d +\d+\.\d%", text, re.M)) == 10
    assert "a.png" in text and (run / "guesses.png").stat().st_size > 5000
    (run / "guesses.png").unlink()
    found = json.loads(shell("eval.py", run, tmp_path / "a.png", "--json"))
    (run / "guesses.png").unlink()
    shares = [p for _, p in found[0]["guesses"]]
    assert len(shares) == 5 and shares == sorted(shares, reverse=True) and sum(shares) <= 1.000001


def test_eval_takes_any_picture_and_names_a_bad_one(digits, tmp_path):
    run, _ = digits
    gray = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(gray).save(tmp_path / "wide.png")
    scene().convert("CMYK").save(tmp_path / "inks.jpg")
    scene(500, 7).convert("P").save(tmp_path / "palette.gif")
    Image.new("RGBA", (1, 1)).save(tmp_path / "dot.png")
    names = ["wide.png", "inks.jpg", "palette.gif", "dot.png"]
    out = shell("eval.py", run, *(tmp_path / n for n in names))
    assert all(n in out for n in names)
    (run / "guesses.png").unlink()
    for name in ("bomb.png", "text.jpg", "cut.jpg"):
        BAD[name](tmp_path / name)
        assert name in shell("eval.py", run, tmp_path / name, code=3)


@pytest.mark.parametrize("name", ["two_weight", "cross"])
def test_the_lectures_nets_learn(name, tmp_path):
    printed = shell("train.py", ROOT / "configs" / f"{name}.toml", "--out", tmp_path)
    samples = {"two_weight": 2, "cross": 4}[name]
    assert re.fullmatch(rf"largest error 0\.0\d+  within 0\.1: {samples} of {samples} samples\n", printed)
    assert {p.name for p in (tmp_path / name).iterdir()} == RUN_FILES
    assert shell("eval.py", tmp_path / name) == printed


def test_a_test_now_and_then(tmp_path):
    args = ["configs/two_weight.toml", "--set", "train.epochs=5", "--set", "train.eval_every=2"]
    shell("train.py", *args, "--out", tmp_path)
    rows = [json.loads(s) for s in (tmp_path / "two_weight/metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in rows if "within" in r] == [2, 4, 5]
    assert (tmp_path / "two_weight/curves.png").exists()


def test_a_float64_run_is_reloaded_whole(tmp_path):
    args = ["configs/two_weight.toml", "--set", "train.epochs=5", "--set", "train.dtype=float64"]
    shell("train.py", *args, "--out", tmp_path)
    found = json.loads(shell("eval.py", tmp_path / "two_weight", "--json"))
    result = json.loads((tmp_path / "two_weight/result.json").read_text())
    assert found["largest_error"] == result["largest_error"]


def test_a_dense_net_climbs_performance(tmp_path):
    printed = shell("train.py", "configs/dense.toml", "--set", "train.epochs=5", "--out", tmp_path)
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


def test_cifars_config_on_a_folder_with_fewer_than_five_classes(tree, tmp_path):
    """configs/cifar10.toml on a tree of folders: bfloat16, and top-3 where there are three."""
    args = ["--set", "train.batch_size=20", "--set", "train.epochs=3", "--set", "train.warmup_epochs=1"]
    layers = tomllib.loads((ROOT / "configs/cifar10.toml").read_text())["net"]["layers"]
    assert layers[-2]["outputs"] == 10
    text = (ROOT / "configs/cifar10.toml").read_text().replace("outputs = 10", "outputs = 3")
    (tmp_path / "small.toml").write_text(text)
    printed = shell("train.py", tmp_path / "small.toml", "--data-root", tree, "--out", tmp_path, *args)
    assert re.search(r"top-1 \d+\.\d%  top-3 100\.0%  \(chance 33\.3%, 100\.0%\)  12 test pictures", printed)
    result = json.loads((tmp_path / "small/result.json").read_text())
    assert result["dtype"] == "bfloat16" and result["top3"] == 1
    assert list(result["per_class"]) == ["blue", "green", "red"]
    weights = load_file(tmp_path / "small/last.safetensors")
    assert all(t.dtype == torch.float32 for k, t in weights.items() if k.startswith("net."))
    assert shell("eval.py", tmp_path / "small", "--data-root", tree).endswith(printed)


def test_cifar100s_config_on_a_folder_of_a_hundred_classes(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for k in range(100):
            (tmp_path / split / f"{k:02}").mkdir(parents=True)
            pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / f"{k:02}" / "a.png")
    args = ["--set", "train.batch_size=50", "--set", "train.epochs=1", "--out", tmp_path]
    printed = shell("train.py", "configs/cifar100.toml", "--data-root", tmp_path, *args)
    assert re.fullmatch(r"top-1 .*%  top-5 .*%  \(chance 1\.0%, 5\.0%\)  100 test pictures\n", printed)
    assert (tmp_path / "cifar100/top5.png").exists()


@pytest.mark.parametrize(
    "args, code, message",
    [
        (["nowhere.toml"], 2, "config nowhere.toml: No such file"),
        (["--set", "train.lrr=1"], 2, 'did you mean "lr"?'),
        (["--set", "train.lr=-1"], 2, "train.lr: must be more than 0"),
        (["--set", 'net.layers=["Flaten"]'], 2, 'did you mean "Flatten"?'),
        (["--set", 'net.layers=["Flatten"]'], 2, "the net gives 64 numbers, digits needs 10"),
        (["--set", "augment.crop_padding=8"], 2, "augment.crop_padding: 8 is too much"),
        (
            ["configs/cross.toml", "--set", "augment.cutout=2"],
            2,
            "augment.cutout: half_adder has no pictures",
        ),
        (["--set", "train.optimizer=adaptive", "--set", "augment.crop_padding=0"], 2, "train.momentum"),
        (["configs/dense.toml", "--set", "train.optimizer=adaptive"], 2, "needs all 1437 samples"),
        (["configs/dense.toml", "--set", "train.label_smoothing=0.1"], 2, "only cross_entropy has it"),
        (["configs/two_weight.toml", "--set", 'net.layers=["Sigmoid"]'], 2, "nothing to train"),
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
def test_train_fails_in_one_line_and_writes_nothing(args, code, message, tmp_path):
    assert message in shell("train.py", *args, "--out", tmp_path / "runs", code=code)
    assert not (tmp_path / "runs").exists()


def test_a_batch_that_batch_norm_cannot_take(tmp_path):
    conv = '{ type = "Conv2d", out_channels = 10, kernel_size = 8 }'
    layers = f'net.layers=[{conv}, "BatchNorm2d", "Flatten"]'
    args = ["--set", layers, "--set", "train.batch_size=1", "--out", tmp_path, "--device", "cpu"]
    assert "more than one value a channel" in shell("train.py", *args, code=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none(tmp_path):
    error = shell("train.py", "--device", "cuda", "--out", tmp_path / "runs", code=2)
    assert "no CUDA device" in error and not (tmp_path / "runs").exists()


def test_a_loss_that_explodes(tmp_path):
    error = shell("train.py", "--set", "train.lr=1e30", "--out", tmp_path, code=5)
    assert "the loss became" in error and "train.lr" in error
    bad = json.loads((tmp_path / "digits/nonfinite.json").read_text())
    assert bad["epoch"] == 1 and bad["step"] > 1 and len(set(bad["samples"])) == 64
    assert "at step 2 of epoch 1" in shell(
        "train.py", "--set", "train.lr=1e30", "--out", tmp_path, "--resume", code=5
    )


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    error = shell("train.py", *QUICK, "--out", tmp_path / "file", code=3)
    assert "file" in error


def test_a_checkpoint_that_does_not_fit_on_the_disk(tmp_path):
    """Here by a limit to a file's size, which the kernel sets."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    args = [sys.executable, "train.py", *QUICK, "--out", tmp_path]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, preexec_fn=limit)
    path = tmp_path / "digits/last.safetensors"
    assert (done.returncode, done.stderr) == (3, f"error: {path}: File too large\n")
    assert not path.exists() and not list(path.parent.glob("*.part"))


def test_from_a_real_shell(tmp_path):
    args = [sys.executable, "train.py", "--set", "train.lr=-1", "--out", tmp_path]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "error: train.lr: must be more than 0, got -1.0\n"


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(number, code, tmp_path):
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
    assert re.fullmatch(rf"error: {name} at step \d+ of 220000; go on with --resume\n", error), error
    assert tensorfile.read(tmp_path / "digits/last.safetensors")[1]["progress"]["step"] >= 0
    assert "a run that isn't finished" in shell("train.py", "--out", tmp_path, code=2)


def change_checkpoint(change, **more):
    def damage(run):
        path = run / "last.safetensors"
        tensors, words = tensorfile.read(path)
        change(tensors)
        tensorfile.save(path, tensors, words | more)

    return damage


def write(name, content):
    return lambda run: (run / name).write_bytes(content)


class Trap:
    def __reduce__(self):
        return os.system, ("touch sprung",)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda run: (run / "last.safetensors").unlink(), "no such checkpoint"),
        (lambda run: (run / "config.toml").unlink(), "config.toml"),
        (write("config.toml", b"name = 3"), "name: expected text"),
        (write("last.safetensors", b""), "damaged"),
        (write("last.safetensors", pickle.dumps(Trap())), "damaged"),
        (write("last.safetensors", b"\xff" * 8 + b"{}"), "damaged"),
        (change_checkpoint(lambda t: t.pop("net.0.weight")), "has no tensor 0.weight"),
        (change_checkpoint(lambda t: t.update({"net.x": torch.ones(1)})), "the net has no x"),
        (change_checkpoint(lambda t: t.update({"net.1.bias": torch.ones(3)})), "1.bias is (3,), not (32,)"),
        (
            change_checkpoint(lambda t: t.update({"net.1.bias": torch.ones(32).int()})),
            "1.bias is torch.int32",
        ),
        (change_checkpoint(lambda t: t.update({"net.1.bias": torch.ones(32).half()})), "not torch.float32"),
        (change_checkpoint(lambda t: t.pop("data.mean")), "no mean"),
        (change_checkpoint(lambda t: t.update({"data.mean": torch.zeros(1).half()})), "no mean"),
        (change_checkpoint(lambda t: None, shape=[1.5, 8, 8]), "no size"),
        (change_checkpoint(lambda t: None, shape=[1, 10**9, 8]), "no size"),
        (change_checkpoint(lambda t: None, classes=["\x1b[2J"] * 10), "no classes"),
        (change_checkpoint(lambda t: None, classes="0123456789"), "no classes"),
        (
            lambda run: (run / "config.toml").write_text(
                (run / "config.toml").read_text().replace("out_channels = 32", "out_channels = 16")
            ),
            "doesn't match its config",
        ),
    ],
)
def test_a_damaged_run(digits, tmp_path, damage, message):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.toml", "last.safetensors"):
        (run / name).write_bytes((digits[0] / name).read_bytes())
    damage(run)
    assert message in shell("eval.py", run, code=4)
    assert not (ROOT / "sprung").exists()


def test_eval_of_nothing_and_of_no_picture(digits, tmp_path):
    assert "no such run" in shell("eval.py", tmp_path / "none", code=4)
    (tmp_path / "x.png").write_text("no picture")
    assert "x.png: not a picture" in shell("eval.py", digits[0], tmp_path / "x.png", code=3)
    assert "y.png: no such file" in shell("eval.py", digits[0], tmp_path / "y.png", code=3)
    assert not (digits[0] / "guesses.png").exists()
