"""The curves in a run's log."""

from nets.report.curves import Curve, Panel, panels
from tests.log_entries import log_of


def test_training_curves_have_a_point_per_log_step_and_test_curves_per_epoch():
    loss, top1 = panels(log_of())
    assert loss.curves == [Curve("training", list(range(5, 61, 5)), [2 / i for i in range(5, 61, 5)])]
    assert top1.label == "top-1 / %" and [c.name for c in top1.curves] == ["training", "test"]
    assert top1.curves[0].y == [100 * (1 - 1 / i) for i in range(5, 61, 5)]
    assert top1.curves[1] == Curve("test", [20, 40, 60], [100 * (1 - 2 / (i + 1)) for i in (20, 40, 60)])
    assert panels(log_of(every=50))[0].curves[0].x == [20, 40, 60]
    early = panels(log_of(epochs=1)[:2])
    assert [[c.name for c in p.curves] for p in early] == [["training"], ["training"]]


def test_toy_sets_and_maximized_performance_have_their_own_labels():
    entries = [
        {"step": i, "epoch": i, "loss": -1 / i, "largest_error": 1 / i, "within": 0} for i in (1, 2, 3)
    ]
    assert [p.label for p in panels(entries)] == ["performance P", "largest error"]
    assert panels(entries)[1].curves == [Curve("test", [1, 2, 3], [1, 1 / 2, 1 / 3])]


def test_values_that_are_not_finite_numbers_are_left_out():
    assert panels([]) == []
    losses = [1.0, None, "x", float("inf"), float("nan"), 10**400, 2.0]
    entries = [{"step": i, "loss": v} for i, v in enumerate(losses)]
    assert panels(entries) == [Panel("loss", [Curve("training", [0, 6], [1.0, 2.0])])]
    assert panels([{"step": 1, "loss": None}]) == []
