"""Reports and figures: ranks with ties, per class, confusions, and which pictures are shown."""

import numpy as np
import pytest
import torch
from PIL import Image

from nets.optim.schedules import SCHEDULES
from nets.report import figure
from nets.training.evaluate import ranking, report, toy_report


def test_ties_rank_the_lower_class_first():
    assert ranking(torch.tensor([[1.0, 3.0, 3.0, 2.0]])).tolist() == [[1, 2, 3, 0]]
    assert ranking(torch.zeros(1, 50)).tolist() == [list(range(50))]


def test_report():
    #                  right                 second                sixth of six
    z = torch.tensor([[9, 1, 2, 3, 4, 5.0], [9, 8, 2, 3, 4, 5.0], [9, 8, 7, 6, 5, 4.0]])
    r = report(z, torch.tensor([0, 1, 5]))
    assert (r.top1, r.topk, r.k, r.count) == (pytest.approx(1 / 3), pytest.approx(2 / 3), 5, 3)
    assert r.per_class == [1, 0, 0, 0, 0, 0]
    assert r.confused == [(1, 0, 1), (5, 0, 1)]
    assert r.line() == "top-1 33.3%  top-5 66.7%  (chance 16.7%, 83.3%)  3 test pictures"


def test_fewer_than_five_classes():
    r = report(torch.eye(3), torch.tensor([0, 1, 0]))
    assert r.k == 3 and r.topk == 1 and "top-3 100.0%" in r.line()


def test_toy_report():
    r = toy_report(torch.tensor([[0.05, 0.98], [0.2, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    assert r.line() == "largest error 0.200  within 0.1: 1 of 2 samples"


def test_pictures_are_picked_by_probability():
    z = torch.zeros(8, 3)
    target = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    z[torch.arange(8), target] = torch.tensor([9.0, 8, 7, 6, -1, 5, -3, -2])
    best, worst = figure.picked(z, target, each=4)
    assert best == [0, 3, 5, 1]  # a class at most once, then the surest that are left
    assert worst == [6, 7, 4]  # the worst first


def red(path):
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    r, g, b = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    return int(((r - g > 60) & (r - b > 30)).sum())


def test_the_true_label_has_another_color(tmp_path):
    pictures = [np.zeros((8, 8, 3), np.uint8)]
    names = [f"class{i}" for i in range(7)]
    z = torch.tensor([[6.0, 5, 4, 3, 2, 1, 0]])
    for label in (0, 6):
        figure.top5(tmp_path / f"{label}.png", pictures, z, names, [label])
    figure.top5(tmp_path / "none.png", pictures, z, names)
    assert red(tmp_path / "0.png") > 1000 > red(tmp_path / "6.png") > red(tmp_path / "none.png") == 0


@pytest.mark.parametrize("count", [1, 3, 7])
def test_figures_of_any_number_of_pictures(tmp_path, count):
    pictures = [np.zeros((8, 8, 1), np.uint8)] * count
    figure.top5(tmp_path / "p.png", pictures, torch.randn(count, 3), ["a $x_1$", "b" * 99, "c_d"])
    assert Image.open(tmp_path / "p.png").width > 100


def test_every_schedule_is_documented():
    assert all(f.__doc__ for f in SCHEDULES.values())
