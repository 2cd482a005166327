"""nets distributed-bench on two processes, and the table of nets distributed-plan."""

import re
import subprocess
import sys

import pytest
from PIL import Image

from tests.shell import ROOT, shell


@pytest.mark.deep
def test_two_processes_print_one_table():
    args = ["--device", "cpu", "--width", "32", "--depth", "2", "--batch", "4", "8", "--rounds", "2"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    line = [*launch, "-m", "nets", "distributed-bench", *args]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"2 processes: \d+\.\d+ GB/s each way, \d+ µs a hop", lines[0])
    assert lines[1].split()[:2] == ["MB", "ms"]
    assert [row.split()[0] for row in lines[-2:]] == ["4", "8"]
    assert sum(line.startswith("2 processes") for line in lines) == 1


def test_one_process_has_nothing_to_sum():
    assert "at least two processes" in shell("distributed-bench", "--device", "cpu", code=2)


def test_the_plan_and_its_picture(tmp_path):
    printed = shell("distributed-plan", "--plot", tmp_path / "plan.png")
    tables = printed.strip().split("\n\n")
    assert [table.split(":")[0] for table in tables] == ["cifar10", "alexnet", "alexnet", "1.02 billion"]
    assert "60,965,224 weights, batches of 128\n" in tables[1]
    with Image.open(tmp_path / "plan.png") as image:
        assert image.width > 600
