"""nets bench: its tables, its JSON and its plot."""

import json
import math
import os
import shutil

import pytest
from matplotlib.image import imread

from nets.bench import worker
from tests.bench.common import command, numbers

LABELS = (
    "ms per step", "samples per second", "peak memory of tensors", "peak memory of process",
    "operators, kernels", "of the machine's best", "bytes moved", "/ fewest possible", "compile time",
    "loss in step 5",
)  # fmt: skip
COMPILER = pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="needs a C++ compiler")


def test_output_has_every_line_and_json_has_finite_numbers(in_process, capsys, tmp_path):
    args = ("--forms", "manual,autograd", "--rounds", 2, "--steps", 2, "--batch", 4, "--profile", 1)
    command(
        "digits",
        *args,
        "--set",
        "net.backend=reference",
        "--json",
        tmp_path / "b.json",
        "--plot",
        tmp_path / "b.png",
    )
    out = capsys.readouterr().out
    assert out.startswith("digits, 98,026 parameters, batches of 4 in float32, reference kernels, on cpu")
    assert "Timed: forward, loss, backward and update" in out and "runs 2 steps after one" in out
    assert all(label in out for label in LABELS)
    assert out.count("7 (Conv2d)") == 1 and "update" in out  # one table has both forms' layers
    facts = json.loads((tmp_path / "b.json").read_text())
    found = list(numbers(facts))
    assert len(found) > 100 and all(map(math.isfinite, found))
    for result in facts["forms"]:
        for key in ("median_ms", "total_bytes", "resident_bytes", "launches", "moved_bytes", "share_of_peak"):
            assert result[key] > 0, key
        assert len(result["ms"]) == 2 and result["low_ms"] <= result["median_ms"] <= result["high_ms"]
        assert result["moved_over_fewest"] > 1
        assert result["total_bytes"] == result["persistent_bytes"] + result["peak_bytes"]
    ours, theirs = (result["persistent_bytes"] for result in facts["forms"])
    guard = 1 + 8 + 4  # a flag, a count and a loss
    assert ours - guard + 3 * 8 == theirs  # each nn.BatchNorm2d counts its batches
    assert imread(tmp_path / "b.png").shape[2] == 4


@pytest.mark.deep
@COMPILER
def test_compiled_forms_run_in_their_own_processes(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(worker, "CACHE", str(tmp_path / "compiled"))  # the forms share some compiled code
    names = "manual-compiled,autograd-compiled"
    args = ("--forms", names, "--rounds", 1, "--steps", 1, "--json", tmp_path / "b.json", "--profile", 1)
    command("two_weight", *args)
    out = capsys.readouterr().out
    assert all(label in out for label in LABELS) and "cpp_fused" in out
    facts = json.loads((tmp_path / "b.json").read_text())
    assert all(map(math.isfinite, numbers(facts)))
    for result in facts["forms"]:
        assert result["compile_s"] > 0 and result["launches"] > 0 and result["moved_bytes"] > 0
