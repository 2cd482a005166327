"""Changed checkpoints are used, or refused in one line: soon, and in little memory.

`FUZZ_MINUTES=10 python -m pytest -s -n 0 tests/training/test_checkpoint_fuzz.py` draws new cases for ten
minutes; without it, the same few every time.
"""

import os
import resource
import shutil
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, seed, settings

from nets.common.errors import Problem
from nets.training.predict import Trained
from tests.training.checkpoint_fuzz import checkpoints
from tests.training.ended_runs import CPU, make, run_of

pytestmark = pytest.mark.usefixtures("no_pictures")
MINUTES = float(os.environ.get("FUZZ_MINUTES", 0))
OWN = ['net.layers=["Flatten", { type = "Linear", out_features = 10 }]', "train.param_groups=[]"]


def peak() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_any_checkpoint_is_used_or_refused(tmp_path):
    conf = make("", [*OWN, "train.epochs=1", "checkpoint.every_seconds=1e9"])
    run_of(conf, tmp_path / "run").train()
    valid, fates = tmp_path / "run/last.safetensors", Counter()
    shutil.copytree(tmp_path / "run", tmp_path / "other")

    def fate(use) -> str:
        begin, before = time.process_time(), peak()
        try:
            use()
            end = "used"
        except Problem as e:
            assert str(e).splitlines() == [str(e)] and 2 <= e.code <= 5
            end = f"refused with {e.code}"
        assert time.process_time() - begin < 5 and peak() - before < 300
        return end

    def resume():
        shutil.copy(tmp_path / "run/metrics.jsonl", tmp_path / "other")
        run_of(conf, tmp_path / "other").train(resume=True)

    def search(examples: int, new: bool):
        @seed(time.time_ns() if new else 0)
        @settings(max_examples=examples, derandomize=False, database=None, deadline=None,
                  suppress_health_check=[*HealthCheck])  # fmt: skip
        @given(checkpoints(valid))
        def case(raw):
            (tmp_path / "other/last.safetensors").write_bytes(raw)
            fates["eval", fate(lambda: Trained(tmp_path / "other", CPU).test())] += 1
            (tmp_path / "other/last.safetensors").write_bytes(raw)
            fates["resume", fate(resume)] += 1

        case()

    end = time.monotonic() + 60 * MINUTES
    search(20, new=bool(MINUTES))
    while time.monotonic() < end:
        search(100, new=True)
    print(f"{fates.total()} uses: {dict(fates)}")
    assert len(fates) >= 4
