"""Many processes: those that need a group of them run in worker.py, all at once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.distributed import worker

ROOT = Path(__file__).parents[2]

CHECKS = [check.__name__ for check in worker.CHECKS]

DEATHS = [" ".join(map(str, death[:3])) for death in worker.DEATHS]

FORK = pytest.mark.skipif(sys.platform != "linux", reason="forks")


def run(device):
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    args = [sys.executable, "-m", "tests.distributed.worker", device]
    done = subprocess.run(args, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def results():
    return run("cpu")


@FORK
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("check", [*CHECKS, "end"])
def test_in_several_processes(results, size, check):
    result = results["checks"][f"{size} {check}"]
    assert result == "ok", result


@FORK
@pytest.mark.parametrize("death", DEATHS)
def test_a_death_ends_the_others_with_one_line(results, death):
    """With exit code 7 and the name of the one that died, at once; one that stands still after its grace."""
    codes, lines, seconds = results["deaths"][death]
    size, victim, how = death.split(" ", 2)
    size, victim = int(size), int(victim)
    said = [line for some in lines for line in some]
    assert len(said) == 1, said
    assert seconds < 10
    if how == "stopped":  # one has a signal, all stop at the same step
        assert codes == [143] * size and said[0].startswith("error: terminated at step ")
        return
    of_victim = {"data": 3}.get(how, -9)
    assert codes == [of_victim if rank == victim else 7 for rank in range(size)]
    if how == "data":  # it printed the reason itself
        assert said == ["error: picture.png: damaged"]
    else:
        assert said[0].startswith(f"error: rank {victim} (") and ", pid " in said[0]
        assert said[0].endswith(") died; resume with --resume")


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_on_two_gpus():
    """Everything over NCCL."""
    found = run("cuda")
    assert set(found["checks"].values()) == {"ok"}, found["checks"]
