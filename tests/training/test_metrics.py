"""Metrics: ranks with ties, per class, confusions, outputs."""

import pytest
import torch

from nets.optim.schedules import SCHEDULES
from nets.training.metrics import RunningMetrics, class_metrics, metrics, output_metrics, ranking
from tests.training.ended_runs import CPU


def test_ties_rank_the_lower_class_first():
    assert ranking(torch.tensor([[1.0, 3.0, 3.0, 2.0]])).tolist() == [[1, 2, 3, 0]]
    assert ranking(torch.zeros(1, 50)).tolist() == [list(range(50))]


def test_class_metrics():
    #                  right                 second                sixth of six
    z = torch.tensor([[9, 1, 2, 3, 4, 5.0], [9, 8, 2, 3, 4, 5.0], [9, 8, 7, 6, 5, 4.0]])
    r = class_metrics(z, torch.tensor([0, 1, 5]))
    assert (r.top1, r.topk, r.k, r.count) == (pytest.approx(1 / 3), pytest.approx(2 / 3), 5, 3)
    assert r.per_class == [1, 0, 0, 0, 0, 0]
    assert r.confused == [(1, 0, 1), (5, 0, 1)]
    assert r.line() == "top-1 33.3%  top-5 66.7%  (chance 16.7%, 83.3%)  3 test images"


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_top5_of_five_classes_or_fewer_is_no_score(classes):
    r = metrics(torch.eye(classes), torch.arange(classes))
    assert r.scores() == {"top1": 1} and r.chance() == {"top1": 1 / classes}
    assert r.line() == f"top-1 100.0%  (chance {1 / classes:.1%})  {classes} test images"
    assert metrics(torch.eye(6), torch.arange(6)).scores() == {"top1": 1, "top5": 1}


def test_per_class_is_what_was_counted_without_float32s_noise():
    z, y = torch.zeros(25, 2), torch.zeros(25, dtype=torch.int64)
    z[:3, 1] = 1
    assert class_metrics(z, y).per_class == [0.88, 0]


def test_output_metrics():
    r = output_metrics(torch.tensor([[0.05, 0.98], [0.2, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    assert r.line() == "largest error 0.200  within 0.1: 1 of 2 samples"


def test_every_schedule_is_documented():
    assert all(f.__doc__ for f in SCHEDULES.values())


def test_running_metrics_leave_out_steps_that_do_not_count():
    metrics = RunningMetrics(CPU)
    for loss, ok in ((1.0, True), (float("nan"), False), (3.0, True)):
        metrics.add(torch.tensor(loss), torch.tensor(2), 4, torch.tensor(ok))
    assert metrics.means(summed=False) == {"loss": 2.0, "train_top1": 0.5}
    assert metrics.means(summed=True)["loss"] == 0.5
    assert (metrics.steps(), metrics.samples()) == (2, 8)


def test_running_metrics_of_batches_of_several_sizes():
    metrics = RunningMetrics(CPU)
    metrics.add(torch.tensor(3.0), torch.tensor(1), 1)
    metrics.add(torch.tensor(1.0), torch.tensor(2), 3)
    assert metrics.means(summed=True) == {"loss": 1.0, "train_top1": 0.75}
