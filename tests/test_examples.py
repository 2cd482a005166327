"""The programs in examples/ run, each in seconds, and print what they promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(name: str, folder: Path) -> str:
    """What an example prints. It writes its runs to folder."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    args = [sys.executable, str(ROOT / "examples" / name)]
    done = subprocess.run(args, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def percents(label: str, text: str) -> list[float]:
    return [float(number) for number in re.findall(rf"{label} (\d+\.\d+)%", text)]


def test_two_weight_learns_to_repeat_a_bit(tmp_path):
    assert "2 of 2 right to 0.1" in run("two_weight.py", tmp_path)


@pytest.mark.deep
def test_own_layer_is_checked_and_learns_digits(tmp_path):
    out = run("own_layer.py", tmp_path)
    assert "RMSNorm: 2 gradients agree" in out
    assert percents("top-1", out)[0] > 85
    assert (tmp_path / "runs" / "own_layer" / "last.safetensors").exists()


@pytest.mark.deep
def test_own_torch_model_is_checked_and_learns_digits(tmp_path):
    out = run("own_torch_model.py", tmp_path)
    assert "gradients agree with autograd of the torch model" in out
    (trained,), (back,) = percents("top-1", out), percents("back in torch:", out)
    assert trained > 85 and back == trained


def test_tensors_in_figures_out_leaves_a_run(tmp_path):
    out = run("tensors_in_figures_out.py", tmp_path)
    assert percents("top-1", out)[0] > 85 and percents("top-5", out)[0] > 98
    assert len(re.findall(r"^digit \d: \d \d+\.\d%", out, re.M)) == 3
    for file in ("result.json", "metrics.jsonl", "curves.png", "top5.png", "last.safetensors"):
        assert file in out


def test_every_example_has_a_test():
    tested = Path(__file__).read_text()
    assert EXAMPLES and all(f'run("{path.name}"' in tested for path in EXAMPLES)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_is_short_and_explained(path):
    lines = path.read_text().splitlines()
    assert len(lines) < 60
    assert lines[0].startswith('"""')
