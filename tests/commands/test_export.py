"""nets export."""

import shutil

import torch

from nets.play.weights import read
from nets.training.predict import Trained
from tests.shell import QUICK, shell


def test_the_file_holds_the_runs_net(digits, tmp_path):
    run, _ = digits
    out = tmp_path / "new" / "net.json"
    assert shell("export", run, "--out", out).startswith(f"wrote {out}, 0.5")
    trained, found = Trained(run, torch.device("cpu")), read(out)
    images = torch.randint(0, 256, (20, 8, 8, 1), dtype=torch.uint8)
    x = (images.permute(0, 3, 1, 2).float() / 255 - found.mean[:, None, None]) / found.std[:, None, None]
    torch.testing.assert_close(found.net(x), trained.predict(images), rtol=1e-5, atol=1e-5)
    assert found.classes == trained.classes and found.shape == (1, 8, 8)


def test_by_default_it_lies_in_the_runs_folder(digits, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(digits[0], run)
    assert shell("export", run).startswith(f"wrote {run / 'net.json'}")
    assert read(run / "net.json").classes == tuple("0123456789")
    assert "has no best checkpoint" in shell("export", run, "--best", code=4)


def test_what_the_page_cannot_show_is_refused_in_one_line(tmp_path):
    assert "no such run" in shell("export", tmp_path / "none", code=4)
    shell("train", "two_weight", *QUICK, "--out", tmp_path)
    assert "doesn't classify images" in shell("export", tmp_path / "two_weight", code=2)
    gelu = ["--set", 'net.layers.2="GELU"', "--set", 'name="gelu"']
    shell("train", *QUICK, *gelu, "--set", "train.epochs=1", "--out", tmp_path)
    assert "the page has no GELU" in shell("export", tmp_path / "gelu", code=2)
