"""nets distributed-bench on two processes."""

import re
import subprocess
import sys

import pytest

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
