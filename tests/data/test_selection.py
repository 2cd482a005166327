"""Selective training: which samples skip an epoch, and what the others weigh."""

import pytest
import torch

from nets.data.sampler import epoch_plan
from nets.data.selection import Selection
from nets.training.config import Augment, Data

CPU = torch.device("cpu")


def plan_of(n, epoch=0):
    return epoch_plan(n, (3, 4, 4), Data(), Augment(crop_padding=1, flip="alternating"), 0, epoch, CPU)


def test_only_easy_samples_skip_an_epoch_and_only_after_skip_after_epochs():
    selection = Selection(100, 0.5, skip_after_epochs=2, device=CPU)
    for epoch in range(2):
        assert len(selection.select(plan_of(100), 0, epoch).order) == 100
        assert (selection.weight == 1).all()
    selection.update(torch.arange(100), torch.arange(100.0))
    chosen = selection.select(plan_of(100), 0, 2)
    assert len(chosen.order) == 75 == 100 - selection.num_skipped(2)
    assert set(range(50, 100)) <= set(chosen.order.tolist())
    assert len(chosen.shift) == len(chosen.flip) == 75
    whole = plan_of(100)
    kept = [i for i, k in enumerate(whole.order.tolist()) if k in set(chosen.order.tolist())]
    assert torch.equal(chosen.order, whole.order[kept]) and torch.equal(chosen.shift, whole.shift[kept])


def test_weights_keep_the_expected_gradient():
    selection = Selection(1000, 0.4, skip_after_epochs=0, device=CPU)
    selection.update(torch.arange(1000), torch.rand(1000))
    gradient, sums = torch.rand(1000), []
    for epoch in range(400):
        chosen = selection.select(plan_of(1000, epoch), 0, epoch)
        sums.append((selection.weight * gradient)[chosen.order].sum())
    assert torch.stack(sums).mean() == pytest.approx(gradient.sum().item(), rel=0.005)
    assert torch.stack(sums).std() > 0
    again = Selection(1000, 0.4, skip_after_epochs=0, device=CPU)
    again.update(torch.arange(1000), selection.scores)
    assert torch.equal(chosen.order, again.select(plan_of(1000, 399), 0, 399).order)


def test_drop_skipped_repeats_the_selection_of_a_resumed_epoch():
    selection = Selection(100, 0.5, skip_after_epochs=0, device=CPU)
    selection.update(torch.arange(100), torch.rand(100))
    chosen = selection.select(plan_of(100), 0, 0)
    resumed = Selection(100, 0.5, skip_after_epochs=0, device=CPU)
    resumed.weight.copy_(selection.weight)
    resumed.scores.copy_(torch.rand(100))  # scores have changed since the epoch began
    assert torch.equal(resumed.drop_skipped(plan_of(100)).order, chosen.order)


def test_synchronize_merges_the_updated_scores_alone():
    class World:
        def merge(self, values, mask):
            self.merged = values.clone(), mask.clone()

    selection, world = Selection(4, 0.5, skip_after_epochs=0, device=CPU), World()
    selection.update(torch.tensor([2, 0]), torch.tensor([5.0, 7.0]))
    selection.synchronize(world)
    scores, updated = world.merged
    assert scores.tolist() == [7, torch.inf, 5, torch.inf] and updated.tolist() == [True, False, True, False]
    assert not selection.updated.any()
