"""nets eval: the test again, pictures of any size, and damaged runs."""

import json
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from nets.common import tensorfile
from tests.data.image_files import scene
from tests.data.test_images_damaged import BAD
from tests.shell import ROOT, last_line, shell


def test_eval_prints_the_training_runs_result(digits):
    run, printed = digits
    text = shell("eval", run, "--device", "cpu")
    assert text.endswith(last_line(printed))
    assert len(re.findall(r"^\d +\d+\.\d%$", text, re.M)) == 10
    found = json.loads(shell("eval", run, "--json"))
    assert found["top1"] == json.loads((run / "result.json").read_text())["top1"]
    assert found["top5"] >= found["top1"] and found["count"] == 360
    assert np.mean(list(found["per_class"].values())) == pytest.approx(found["top1"], abs=0.01)


def test_pictures_of_any_size(digits, tmp_path):
    run, _ = digits
    Image.new("RGB", (300, 200), "white").save(tmp_path / "a.png")
    Image.new("RGBA", (3, 5)).save(tmp_path / "b.png")
    text = shell("eval", run, tmp_path / "a.png", tmp_path / "b.png")
    assert len(re.findall(r"^  \d +\d+\.\d%", text, re.M)) == 10
    assert "a.png" in text and (run / "guesses.png").stat().st_size > 5000
    (run / "guesses.png").unlink()
    found = json.loads(shell("eval", run, tmp_path / "a.png", "--json"))
    (run / "guesses.png").unlink()
    shares = [p for _, p in found[0]["guesses"]]
    assert len(shares) == 5 and shares == sorted(shares, reverse=True) and sum(shares) <= 1.000001


def test_pictures_of_any_mode_and_bad_ones_by_name(digits, tmp_path):
    run, _ = digits
    gray = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(gray).save(tmp_path / "wide.png")
    scene().convert("CMYK").save(tmp_path / "inks.jpg")
    scene(500, 7).convert("P").save(tmp_path / "palette.gif")
    Image.new("RGBA", (1, 1)).save(tmp_path / "dot.png")
    names = ["wide.png", "inks.jpg", "palette.gif", "dot.png"]
    out = shell("eval", run, *(tmp_path / n for n in names))
    assert all(n in out for n in names)
    (run / "guesses.png").unlink()
    for name in ("bomb.png", "text.jpg", "cut.jpg"):
        BAD[name](tmp_path / name)
        assert name in shell("eval", run, tmp_path / name, code=3)


def test_a_float64_run_has_the_same_result_again(tmp_path):
    args = ["configs/two_weight.toml", "--set", "train.epochs=5", "--set", "train.dtype=float64"]
    shell("train", *args, "--out", tmp_path)
    found = json.loads(shell("eval", tmp_path / "two_weight", "--json"))
    result = json.loads((tmp_path / "two_weight/result.json").read_text())
    assert found["largest_error"] == result["largest_error"]


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
def test_a_damaged_run_is_refused_in_one_line(digits, tmp_path, damage, message):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.toml", "last.safetensors"):
        (run / name).write_bytes((digits[0] / name).read_bytes())
    damage(run)
    assert message in shell("eval", run, code=4)
    assert not (ROOT / "sprung").exists()


def test_missing_runs_and_unreadable_pictures(digits, tmp_path):
    assert "no such run" in shell("eval", tmp_path / "none", code=4)
    (tmp_path / "x.png").write_text("no picture")
    assert "x.png: not a readable image" in shell("eval", digits[0], tmp_path / "x.png", code=3)
    assert "y.png: no such file" in shell("eval", digits[0], tmp_path / "y.png", code=3)
    assert not (digits[0] / "guesses.png").exists()


def test_eval_py_does_the_same(digits):
    args = [sys.executable, "eval.py", digits[0], "--device", "cpu"]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == shell("eval", digits[0], "--device", "cpu")
