"""The figures of a run: results first, then pictures."""

import json

import pytest
import torch
from matplotlib.image import imread

from nets.report import figure
from nets.report.run_figures import Figures, attempt
from nets.training import config
from nets.training.run import Run
from tests.data.trees import write_image
from tests.shell import shell


def test_a_figure_that_cannot_be_drawn_costs_no_result(tmp_path, monkeypatch, capsys):
    def broken(path, *_):
        assert (tmp_path / "dense/result.json").exists()  # results first
        raise ValueError("no\nsuch color")

    monkeypatch.setattr(figure, "top5", broken)
    conf = config.load("configs/dense.toml", ["train.epochs=1"])
    result = Run.from_config(conf, torch.device("cpu"), tmp_path / "dense", hooks=[Figures()]).train()
    assert (
        result is not None and json.loads((tmp_path / "dense/result.json").read_text())["top1"] == result.top1
    )
    said = capsys.readouterr().err
    note = f"note: {tmp_path}/dense/top5.png can't be drawn: ValueError: no such color (test_run_figures.py"
    assert said.startswith(note) and said.count("\n") == 1
    assert imread(tmp_path / "dense/curves.png").std() > 0.01  # the other figure is drawn


def test_an_interrupt_while_drawing_is_none_of_the_figures_failures(tmp_path):
    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(tmp_path / "a.png", interrupted)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_images_of_one_row_or_column_train_to_a_result(tmp_path, size, capsys):
    for split in ("train", "test"):
        for name in ("a_b", "é"):
            for i in range(4):
                write_image(tmp_path / "tree" / split / name / f"{i}.png", size=size)
    net = '[net]\nlayers = ["GlobalAvgPool", { type = "Linear", out_features = 2 }]\n[train]\nepochs = 1\n'
    (tmp_path / "net.toml").write_text(f'[data]\nsource = "folder"\n{net}batch_size = 4\n')
    shell("train", tmp_path / "net.toml", "--data-root", tmp_path / "tree", "--out", tmp_path)
    for name in ("result.json", "top5.png", "curves.png"):
        assert (tmp_path / "net" / name).stat().st_size > 100
