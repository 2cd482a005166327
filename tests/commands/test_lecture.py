"""nets lecture."""

import subprocess
import sys

from nets.lecture import EXPERIMENTS


def _command(*args, cwd="."):
    return subprocess.run(
        [sys.executable, "-m", "nets", "lecture", *args], capture_output=True, text=True, cwd=cwd
    )


def test_the_command_writes_page_numbers_and_pictures(tmp_path):
    done = _command("sigmoid", "--device", "cpu", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "held" in done.stdout and "1 of 1 claims held" in done.stdout
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"index.html", "result.json", "sigmoid.png"}


def test_an_unknown_name_is_a_usage_error_with_the_nearest_name():
    done = _command("rate-constnat")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert 'did you mean "rate-constant"?' in done.stderr


def test_list_prints_every_experiment():
    done = _command("--list")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(EXPERIMENTS)
