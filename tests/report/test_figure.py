"""A run's figures."""

import numpy as np
import pytest
import torch
from PIL import Image

from nets.report import figure
from nets.report.curves import panels
from tests.log_entries import log_of


def test_equal_log_entries_give_equal_bytes(tmp_path):
    entries = log_of()
    for i in range(2):
        figure.curves(tmp_path / f"curves{i}.png", entries, "a run")
        figure.by_step(tmp_path / f"steps{i}.png", panels(entries), "a run")
    figure.curves(tmp_path / "epochs.png", [e for e in entries if "epoch" in e], "a run")
    read = {p.stem: p.read_bytes() for p in tmp_path.iterdir()}
    assert read["curves0"] == read["curves1"] == read["epochs"] and read["steps0"] == read["steps1"]
    assert read["curves0"] != read["steps0"]
    for name in ("curves0", "steps0"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert set(image.info) <= {"dpi"} and len(image.getcolors(2**24)) > 20


def test_math_signs_in_a_title_are_drawn_literally(tmp_path):
    for title in (r"$\frac$", "50$ and 60$_"):
        figure.curves(tmp_path / "a.png", log_of(), title)
        figure.by_step(tmp_path / "b.png", panels(log_of()), title)


def test_best_and_worst_images_are_chosen_by_probability():
    z = torch.zeros(8, 3)
    target = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    z[torch.arange(8), target] = torch.tensor([9.0, 8, 7, 6, -1, 5, -3, -2])
    best, worst = figure.best_and_worst(z, target, each=4)
    assert best == [0, 3, 5, 1]  # each class once, then the most confident of the rest
    assert worst == [6, 7, 4]  # the worst is first


def red(path):
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    r, g, b = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    return int(((r - g > 60) & (r - b > 30)).sum())


def test_the_true_class_has_another_color(tmp_path):
    pictures = [np.zeros((8, 8, 3), np.uint8)]
    names = [f"class{i}" for i in range(7)]
    z = torch.tensor([[6.0, 5, 4, 3, 2, 1, 0]])
    for label in (0, 6):
        figure.top5(tmp_path / f"{label}.png", pictures, z, names, [label])
    figure.top5(tmp_path / "none.png", pictures, z, names)
    assert red(tmp_path / "0.png") > 1000 > red(tmp_path / "6.png") > red(tmp_path / "none.png") == 0


@pytest.mark.parametrize("count", [1, 3, 7])
def test_top5_draws_any_number_of_images(tmp_path, count):
    pictures = [np.zeros((8, 8, 1), np.uint8)] * count
    figure.top5(tmp_path / "p.png", pictures, torch.randn(count, 3), ["a $x_1$", "b" * 99, "c_d"])
    assert Image.open(tmp_path / "p.png").width > 100
