"""Kills and resumes, and the comparison of two runs."""

import pytest

from nets.tools import survive
from nets.training import config
from tests.training.ended_runs import CPU, ROOT, make, run_of

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_differences_between_two_runs_are_named(tmp_path):
    """Checks the comparison itself, with two seeds."""
    for seed in (0, 1):
        run_of(make("", [f"seed={seed}", "train.epochs=1"]), tmp_path / str(seed)).train()
    a, b = (survive.state(tmp_path / str(seed)) for seed in (0, 1))
    found = survive.differences(a, b)
    assert {"net.0.weight", "optimizer.velocity.0.weight", "metrics.jsonl", "random.cpu", "words"} <= set(
        found
    )


@pytest.mark.deep
def test_a_killed_process_resumes_bit_identically(tmp_path):
    """The short form of `nets survive`, SIGKILL and all."""
    conf = config.load(ROOT / "configs/digits.toml", [*survive.SETTINGS, "train.epochs=2"])
    found = dict(survive.survive(conf, CPU, tmp_path, kills=2, saves=2))
    assert len(found) == 4 and not any(found.values()), found
