"""Whole runs on several processes: equal to one process's, stopped, killed, resumed by more or fewer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nets.common import tensorfile
from nets.tools import survive
from nets.training import log

ROOT = Path(__file__).parents[2]
# deep: whole runs; test_process_group.py has their parts
pytestmark = [pytest.mark.deep, pytest.mark.skipif(sys.platform != "linux", reason="forks")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(their folder, {name: [(exit codes, lines), …]}) of the runs in runs_worker.py."""
    folder = tmp_path_factory.mktemp("together")
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    args = [sys.executable, "-m", "tests.distributed.runs_worker", str(folder)]
    done = subprocess.run(args, cwd=ROOT, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    found = {}
    for name, codes, lines in json.loads(done.stdout):
        found.setdefault(name, []).append((codes, lines))
    return folder, found


def near(a: Path, b: Path, tolerance=1e-10):
    """Everything in two runs' last checkpoints, and their logs, within a tolerance of the largest number."""
    one, other = (tensorfile.read(path / "last.safetensors")[0] for path in (a, b))
    names = {name for name in one if "random" not in name}
    assert names == {name for name in other if "random" not in name}
    for name in names:
        x, y = one[name].double(), other[name].double()
        apart = torch.where(x == y, 0.0, (x - y).abs()).max()  # infinite: not yet looked at
        assert apart <= tolerance * max(1.0, x[x.isfinite()].abs().max()), (name, apart)
    assert len(names) > 30
    first, second = (log.read_entries(path) for path in (a, b))
    assert [row["step"] for row in first] == [row["step"] for row in second]
    for row, its in zip(first, second):
        for key in ("loss", "train_top1", "top1", "top5", "lr"):
            assert (key in row) == (key in its)
            assert row.get(key, 0.0) == pytest.approx(its.get(key, 0.0), rel=tolerance), (row, its)
    results = [json.loads((path / "result.json").read_text()) for path in (a, b)]
    assert (
        results[0]["confused"] == results[1]["confused"] and results[0]["one_view"] == results[1]["one_view"]
    )


@pytest.mark.parametrize("name", ["two", "four", "sharded"])
def test_several_processes_train_what_one_trains(runs, name):
    folder, results = runs
    assert all(codes == [0] * len(codes) and not lines for codes, lines in results[name]), results[name]
    near(folder / "one", folder / name)


def test_local_statistics_train_something_else(runs):
    """Checks the comparison itself."""
    with pytest.raises(AssertionError):
        near(runs[0] / "one", runs[0] / "local")


@pytest.mark.parametrize("name", ["from two to one", "from one to two"])
def test_a_run_resumes_with_more_or_fewer_processes(runs, name):
    folder, results = runs
    (codes, lines), (later, none) = results[name]
    assert codes == [143] * len(codes) and not none and later == [0] * len(later)
    assert len(lines) == 1 and lines[0].startswith("error: terminated at step ")
    near(folder / "one", folder / name)


@pytest.mark.parametrize("name, victim", [("first killed", 0), ("second killed", 1)])
def test_after_one_is_killed_all_resume_bit_identically(runs, name, victim):
    folder, results = runs
    (codes, lines), (later, _) = results[name]
    assert sorted(codes) == [-9, 7] and codes[victim] == -9 and later == [0, 0]
    assert len(lines) == 1 and lines[0].startswith(f"error: rank {victim} (")
    assert lines[0].endswith(") died; resume with --resume")
    assert not survive.differences(survive.state(folder / "local"), survive.state(folder / name))
    states = tensorfile.read(folder / "local/last.safetensors")[0]["random.cpu"]
    assert len(states) == 2 and not torch.equal(*states)  # each draws its own


def test_all_stop_when_a_step_is_not_finite_on_one(runs):
    folder, results = runs
    ((codes, lines),) = results["not finite"]
    assert codes == [5, 5] and len(lines) == 1 and "the loss became nan at step 4 of epoch 1" in lines[0]
    bad = json.loads((folder / "not finite/nonfinite.json").read_text())
    assert len(bad["samples"]) == 231  # the whole batch
    assert tensorfile.read(folder / "not finite/last.safetensors")[1]["progress"]["step"] == 3


def test_an_error_of_the_main_process_ends_all_with_one_line(runs):
    ((codes, lines),) = runs[1]["in the way"]
    assert codes == [2, 7] and len(lines) == 1 and "has a finished run" in lines[0]


def test_a_signal_stops_a_run_whose_epochs_are_short(runs):
    ((codes, lines),) = runs[1]["short epochs"]
    assert codes == [143, 143] and len(lines) == 1 and lines[0].startswith("error: terminated at step ")
