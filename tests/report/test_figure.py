"""A run's figures."""

import numpy as np
import pytest
import torch
from matplotlib import colors
from matplotlib.figure import Figure
from matplotlib.text import Text
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


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved."""
    figures: list[Figure] = []
    monkeypatch.setattr(figure, "save", lambda found, *_, **__: figures.append(found))
    return figures


def texts_of(found) -> list[str]:
    return [t.get_text() for t in found.findobj(Text) if t.get_text()]


BLACK = [np.zeros((8, 8, 3), np.uint8)]
SEVEN = [f"class_{i}" for i in range(7)]


def test_the_true_class_has_a_sign_and_another_color(drawn):
    z = torch.tensor([[6.0, 5, 4, 3, 2, 1, 0]])
    for labels in ([1], [6], None):
        figure.top5("a.png", BLACK, z, SEVEN, labels)
    among, beyond, unknown = drawn
    assert "✓ class_1" in texts_of(among) and "class_0" in texts_of(among)
    assert "✓ no. 7: 0.2% class_6" in texts_of(beyond)
    assert not any("✓" in t for t in texts_of(unknown))
    fills = [[bar.get_facecolor() for bar in found.subfigs[0].axes[1].patches] for found in drawn]
    assert [len(set(f)) for f in fills] == [2, 1, 1] and fills[0][1] != fills[0][0]


@pytest.mark.parametrize("count", [1, 3, 7])
def test_top5_draws_any_number_of_images(tmp_path, count):
    pictures = [np.zeros((8, 8, 1), np.uint8)] * count
    figure.top5(tmp_path / "p.png", pictures, torch.randn(count, 3), ["a $x_1$", "b" * 99, "c_d"])
    assert Image.open(tmp_path / "p.png").width > 100


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_one_row_or_column_keep_their_colors(drawn, size, channels):
    pixels = np.full((*size, channels), (200, 0, 0)[:channels], np.uint8)
    figure.top5("a.png", [pixels], torch.randn(1, 3), "abc", [0])
    shown = drawn[0].subfigs[0].axes[0].images[0].get_array()
    assert (
        shown.shape == ((*size, 3) if channels == 3 else size)
        and (shown == pixels.reshape(shown.shape)).all()
    )


def test_names_are_cut_by_width_and_keep_underscores_and_math(drawn):
    names = ["i" * 30, "W" * 30, "a_b", "$x_1$ 50%", "c"]
    figure.top5("a.png", BLACK, torch.tensor([[5.0, 4, 3, 2, 1]]), names, [1], captions=None)
    below = drawn[0].subfigs[0].axes[1]
    said, shares = below.texts[::2], below.texts[1::2]
    assert [t.get_text() for t in said][::2] == ["i" * 30, "a_b", "c"]
    assert said[1].get_text().startswith("✓ WWWWWW") and said[1].get_text().endswith("W…")
    assert said[3].get_text() == "$x_1$ 50%" and not said[3].get_parse_math()
    for name, share in zip(said, shares):
        assert name.get_window_extent().x1 < share.get_window_extent().x0


def contrast(one, other) -> float:
    """WCAG's contrast of two colors, from 1 to 21."""

    def luminance(color):
        rgb = np.array(colors.to_rgb(color))
        return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ (
            0.2126,
            0.7152,
            0.0722,
        )

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_every_text_has_a_contrast_of_four_and_a_half(drawn):
    for labels in ([0], [6]):
        figure.top5("a.png", BLACK, torch.arange(7.0)[None], SEVEN, labels)
    figure.curves("b.png", log_of(), "a run")
    figure.by_step("c.png", panels(log_of()), "a run")
    for found in drawn:
        for text in found.findobj(Text):
            assert contrast(text.get_color(), "white") >= 4.5, text.get_text()
    for fill in (figure.TRUE_BAR, figure.OTHER_BAR):
        assert contrast("black", fill) >= 4.5


def test_a_run_of_one_epoch_has_visible_points(drawn):
    figure.curves("a.png", log_of(epochs=1), "one")
    lines = [line for axes in drawn[0].axes for line in axes.lines]
    assert len(lines) == 3 and all(line.get_marker() == "o" and len(line.get_xdata()) == 1 for line in lines)
    figure.curves("a.png", log_of(epochs=60), "many")
    assert all(line.get_marker() == "" for axes in drawn[1].axes for line in axes.lines)


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [{"step": 1, "loss": 2.0}],
        [{"step": 1, "epoch": 1, "loss": None, "train_top1": float("nan"), "top1": None}],
        [{"step": 1, "epoch": 1, "loss": 2.0, "train_top1": 0.5}],  # without a test set
    ],
)
def test_curves_of_a_log_without_numbers_are_drawn(tmp_path, entries):
    figure.curves(tmp_path / "a.png", entries, "x")
    assert Image.open(tmp_path / "a.png").width == 880
