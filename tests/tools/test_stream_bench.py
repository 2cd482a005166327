"""nets stream-bench: its rows, and the memory that a stream takes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.trees import make_tree

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


def bench(root, conf, *args):
    """The rows that stream_bench prints: [[workers, images/s, waited, peak], ...]."""
    line = [sys.executable, "-m", "nets", "stream-bench", str(conf), "--data-root", str(root), *args]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split()[0] == "workers"
    return [[float(s.rstrip("%").replace(",", "")) for s in row.split()] for row in rows]


@pytest.mark.deep
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_tree(tmp_path):
    """Ten times the images are read in the same memory."""
    net = NET.replace("batch_size = 10", "batch_size = 60")
    (tmp_path / "net.toml").write_text('[data]\nsource = "folder"' + net)
    peaks = []
    for count in (300, 3000):
        root = make_tree(tmp_path / str(count), count=1)
        for i in range(1, count):
            for name in ("ant", "bee", "cow"):
                (root / f"train/{name}/{i}.png").symlink_to(root / f"train/{name}/0.png")
        steps = 3 * count // 60 - 5
        args = ["--workers", "1", "--steps", str(steps), "--device", "cpu"]
        [[workers, pace, waited, peak]] = bench(root, tmp_path / "net.toml", *args)
        assert workers == 1 and pace > 0 and 0 <= waited <= 100 and 50 < peak < 2000
        peaks.append(peak)
    assert abs(peaks[1] / peaks[0] - 1) < 0.05
