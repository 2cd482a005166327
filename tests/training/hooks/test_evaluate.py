"""Tests during a run."""

import math

import pytest

from nets.common import tensorfile
from nets.training import config
from tests.training.ended_runs import ROOT, run_of

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_a_score_that_is_not_finite_is_never_the_best(tmp_path):
    """Weights so large after the last step of all that the test's error overflows."""
    layers = 'net.layers=[{ type = "Linear", out_features = 1, init_bound = 100.0 }]'
    over = ["train.lr=3e36", "train.epochs=1", "train.batch_size=2", "train.loss=mse"]
    conf = config.load(ROOT / "configs/two_weight.toml", [*over, layers])
    result = run_of(conf, tmp_path).train()
    assert not math.isfinite(result.score())
    assert tensorfile.read(tmp_path / "last.safetensors")[1]["hooks"]["evaluate"]["best"] is None
