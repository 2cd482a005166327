"""Runs on a stream: bit-identical to runs in memory, resumed, interrupted, on unreadable images."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nets.common.errors import Stopped, UsageError
from nets.report.run_figures import Figures
from nets.tools import survive
from nets.training import config, log
from nets.training.hooks import Hook
from nets.training.run import Run
from tests.shell import last_line, shell

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
NET = """
[net]
layers = [
  { type = "Conv2d", out_channels = 4, kernel_size = 3 }, "ReLU", "GlobalAvgPool",
  { type = "Linear", out_features = 3 },
]
[train]
epochs = 2
batch_size = 10
"""


def test_a_streamed_run_is_bit_identical_to_one_in_memory(root, tmp_path):
    """Weights, metrics and evaluation, with two workers."""
    (tmp_path / "net.toml").write_text(
        '[data]\nsource = "folder"\n[augment]\ncrop_padding = 2\ncutout = 3' + NET
    )
    args = ["--data-root", root, "--out", tmp_path, "--device", "cpu", "--set", "data.num_workers=2", "--set"]
    here = shell("train", tmp_path / "net.toml", *args, "name=here")
    there = shell("train", tmp_path / "net.toml", *args, "name=there", "--set", "data.memory_limit_mb=0")
    here, there = last_line(here), last_line(there)
    assert here == there == shell("eval", tmp_path / "there").split("\n\n")[-1]
    a, b = (load_file(tmp_path / name / "last.safetensors") for name in ("here", "there"))
    assert all(torch.equal(a[k], b[k]) for k in a)
    epochs = [row for row in log.read_entries(tmp_path / "there") if "epoch" in row]
    assert all(0 < r["wait"] < 1 for r in epochs) and (tmp_path / "there/top5.png").exists()
    assert not any("wait" in row for row in log.read_entries(tmp_path / "here"))
    here, there = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("here", "there"))
    assert here == there


class InterruptAt(Hook):
    """An interrupt from the keyboard before step `at`."""

    def __init__(self, at):
        self.at = at

    def before_step(self, run):
        if run.at() == self.at:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_streamed_run_resumes_in_the_middle_of_an_epoch(root, tmp_path):
    """Bit-identical, with random crops and another number of workers."""
    (tmp_path / "net.toml").write_text(
        '[data]\nsource = "folder"\nsize = 9\n[augment]\nrandom_resized_crop = 0.3' + NET
    )
    for name, workers, at in (("alone", 0, None), ("again", 2, 6), ("again", 1, None)):
        given = [f"data.root={root}", f"data.num_workers={workers}", "train.momentum=0.9"]
        conf = config.load(tmp_path / "net.toml", given)
        run = Run.from_config(conf, CPU, tmp_path / name, hooks=[Figures(), InterruptAt(at)])
        if at is None:
            run.train(resume=True)
        else:
            with pytest.raises(Stopped, match="at step 7 of 8"):
                run.train()
    assert not survive.differences(*(survive.state(tmp_path / name) for name in ("alone", "again")))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_stops_a_streamed_run(root, tmp_path, workers):
    (root / "train/bee/5.png").write_bytes(b"")
    (tmp_path / "net.toml").write_text('[data]\nsource = "folder"\nmemory_limit_mb = 0' + NET)
    args = ["--data-root", root, "--out", tmp_path, "--set", f"data.num_workers={workers}"]
    assert "train/bee/5.png: not a readable image" in shell("train", tmp_path / "net.toml", *args, code=3)


@pytest.mark.parametrize("limit", [0, 4000])
def test_unreadable_images_are_skipped_and_counted(root, tmp_path, limit, capfd):
    bad = [root / s for s in ("train/ant/0.png", "train/bee/5.png", "train/bee/13.png", "test/cow/1.png")]
    for p in bad:
        p.write_text("no image")
    (tmp_path / "net.toml").write_text('[data]\nsource = "folder"\non_error = "skip"' + NET)
    args = ["--data-root", root, "--out", tmp_path, "--set", f"data.memory_limit_mb={limit}"]
    for _ in range(2):  # in memory, the second time from the cache
        out = shell("train", tmp_path / "net.toml", *args, "--force")
        result = json.loads((tmp_path / "net/result.json").read_text())
        assert result["count"] == 8 and "8 test images" in out
        assert result["skipped"]["count"] == 4 and set(result["skipped"]["files"]) == {*map(str, bad)}
        assert all("not a readable image" in reason for reason in result["skipped"]["files"].values())
    assert "8 test images" in shell("eval", tmp_path / "net")
    args[-1] += ".0"
    shell("train", tmp_path / "net.toml", *args, code=2)


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "needs data.size"),
        (["data.size=8"], "digits is not read from a folder"),
    ],
)
def test_random_resized_crop_is_refused_without_a_size_or_a_folder(options, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        conf = config.load("configs/digits.toml", ["augment.random_resized_crop=0.5", *options])
        Run.from_config(conf, CPU, tmp_path)


def test_an_interrupted_run_leaves_no_worker(root, tmp_path):
    (tmp_path / "net.toml").write_text(
        '[data]\nsource = "folder"\nmemory_limit_mb = 0\nnum_workers = 2' + NET
    )
    args = [sys.executable, "train.py", str(tmp_path / "net.toml"), "--data-root", str(root)]
    args += ["--device", "cpu", "--set", "train.epochs=100000", "--out", str(tmp_path)]
    own = {"stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(args, cwd=ROOT, **own) as process:
        lines, begin = tmp_path / "net/metrics.jsonl", time.monotonic()
        while not (lines.exists() and lines.stat().st_size) and time.monotonic() - begin < 100:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers receive it too
        error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert re.fullmatch(r"error: interrupted at step \d+ of 400000; resume with --resume\n", error), error
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
