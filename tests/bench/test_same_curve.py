"""The losses of the first steps, by hand and by autograd, are the same."""

import pytest
import torch

from nets.bench import same_curve
from nets.common.errors import UsageError
from nets.training import config
from nets.training.run import Run
from tests.alexnet import PATH, WIDE, overrides


def test_twenty_steps_by_hand_and_by_autograd_have_the_same_loss(alexnet_tree):
    """The narrow net: crops, flips, jitter, LRN, groups, weight decay and momentum, all as in a run."""
    conf = config.load(
        PATH, overrides(alexnet_tree, *WIDE, "train.lr=0.003", "train.epochs=10", "train.schedule=step")
    )
    run = Run.from_config(conf, torch.device("cpu"), alexnet_tree)
    before = {k: p.clone() for k, p in run.net.params.items()}
    pairs = list(same_curve.curves(run, 20))
    assert pairs[-1][0] < 0.9 * pairs[0][0]
    for ours, theirs in pairs:
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert all(not torch.equal(p, before[k]) for k, p in run.net.params.items())


def test_the_curve_of_another_optimizer_has_no_twin(alexnet_tree):
    conf = config.load(PATH, overrides(alexnet_tree, "train.optimizer=muon"))
    with pytest.raises(UsageError, match="torch.optim has no equivalent of muon"):
        next(same_curve.curves(Run.from_config(conf, torch.device("cpu"), alexnet_tree), 1))
