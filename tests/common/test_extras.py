"""Without an optional package, what needs it names it in one line."""

import json
import sys

import pytest

from nets.common.errors import UsageError
from nets.common.extras import require
from tests.shell import shell


@pytest.fixture
def no_torchvision(monkeypatch):
    """As where torchvision isn't installed."""
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision", None)


def test_an_installed_module_is_returned():
    assert require("json", "none", "a test") is json


def test_a_missing_module_names_its_extra():
    with pytest.raises(UsageError, match=r"^a test: needs absent_; .*pip install absent_.* extra \[more\]$"):
        require("absent_.part", "more", "a test")


def test_cifar_downloads_need_torchvision(no_torchvision, tmp_path):
    error = shell("train", "cifar10", "--data-root", tmp_path / "none", "--out", tmp_path / "runs", code=2)
    assert "the download of cifar-10-batches-py: " in error
    assert "needs torchvision" in error and "[vision]" in error
    assert not list(tmp_path.iterdir())


def test_torchvisions_models_need_torchvision(no_torchvision, tmp_path):
    for args in (["gradcheck", "torchvision:resnet18"], ["eval", "torchvision:resnet18", "a.png"]):
        error = shell(*args, code=2, cwd=tmp_path)
        assert error.startswith("error: torchvision:resnet18: needs torchvision") and "[vision]" in error


def test_digits_train_without_torchvision(no_torchvision, tmp_path):
    shell("train", "--set", "train.epochs=1", "--device", "cpu", "--out", tmp_path)
    assert (tmp_path / "digits/result.json").exists()
