"""The mutants of the files that differ from main, as tests/mutants.py --changed runs them."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def git(*args: str) -> str:
    ran = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True)
    return ran.stdout.strip() if ran.returncode == 0 else ""


@pytest.mark.deep
def test_every_mutant_of_a_changed_file_is_killed_or_listed():
    if importlib.util.find_spec("mutmut") is None:
        pytest.skip("mutmut is not installed: pip install -e '.[mutation]'")
    base = git("merge-base", "HEAD", "origin/main") or git("merge-base", "HEAD", "main")
    if not base:
        pytest.skip("no git history with a branch main")
    if not git("diff", "--name-only", base, "--", "nets"):
        pytest.skip("no file differs from main")
    ran = subprocess.run(
        [sys.executable, "tests/mutants.py", "--changed", base], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
