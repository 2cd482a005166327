"""A torch module as the oracle: nets gradcheck of a torch model, and check(module=…)."""

import sys

import pytest
import torch
import torchvision
from torch import nn

from nets.commands.gradcheck import main
from nets.common.errors import MismatchError, UsageError
from nets.convert.from_torch import from_torch
from nets.gradcheck import check
from nets.layers.activations import ReLU, Tanh
from nets.layers.conv import Conv2d

OWN = """
import torch
from torch import nn

def small():
    head = nn.Dropout(0.3), nn.Flatten(), nn.Linear(64, 3)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(True), *head)

def with_input():
    return small(), torch.randn(2, 3, 6, 6)

def strange():
    return nn.Sequential(nn.RReLU(), nn.Softshrink())
"""


def gradcheck(*args):
    main([*args, "--device", "cpu"])


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "torch_own_.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("torch_own_", None)


def test_a_model_of_torchvision_is_checked_by_name(monkeypatch, capsys):
    def little():
        model = torchvision.models.resnet18(num_classes=5)
        model.layer2, model.layer3, model.layer4 = model.layer2[:1], nn.Identity(), nn.Identity()
        model.fc = nn.Linear(128, 5)
        return model

    models = {"resnet18": little}
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: models[name]())
    gradcheck("torchvision:resnet18", "--shape", "2,3,33,32", "--samples", "0")
    out = capsys.readouterr().out
    assert "2×3×33×32" in out and "every gradient agrees: 1 cases in two modes" in out
    for row in ("torch's ResNet, output", "torch's ResNet, 5.0.shortcut.1.running_var", "0 (Conv2d), weight"):
        assert row in out
    with pytest.raises(UsageError, match='no model "resnet17"; did you mean "resnet1'):
        gradcheck("torchvision:resnet17")


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_a_users_torch_model_is_checked(dtype, own, capsys):
    gradcheck("torch_own_:small", "--shape", "2,3,6,6", "--dtype", dtype)
    gradcheck("torch_own_:with_input", "--dtype", dtype)
    out = capsys.readouterr().out
    assert out.count("every gradient agrees") == 2
    assert ("torch's Sequential, output" in out) == (dtype != "bfloat16")
    with pytest.raises(UsageError, match="give --shape"):
        gradcheck("torch_own_:small")
    gradcheck("torch_own_:strange", "--shape", "2,3", "--dtype", dtype)  # no layer here is for its modules
    assert "every gradient agrees" in capsys.readouterr().out


def test_the_oracle_is_the_model_itself(own, monkeypatch):
    """A wrong layer whose backward is right is found, as is a right one whose backward is wrong."""
    with monkeypatch.context() as patch:
        patch.setattr(ReLU, "from_torch", lambda module: Tanh())
        with pytest.raises(MismatchError, match="first at torch's Sequential, output"):
            gradcheck("torch_own_:with_input", "--samples", "0")

    def wrong(self, saved, dy, input_grad=True, right=Conv2d.backward):
        dx, grads = right(self, saved, dy, input_grad)
        return dx, {k: -g for k, g in grads.items()}

    monkeypatch.setattr(Conv2d, "backward", wrong)
    with pytest.raises(MismatchError, match=r"first at 0 \(Conv2d\), weight"):
        gradcheck("torch_own_:with_input", "--samples", "0")


class Rows(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(288, 5)

    def forward(self, x):
        x = self.norm(x).relu()
        return self.head(x.view(x.size(0), -1))


def test_check_compares_with_the_module_that_it_is_given():
    module = Rows().to(torch.float64)
    x = torch.randn(3, 4, 8, 9, dtype=torch.float64)
    report = check(from_torch(module), x, module=module)
    assert report.ok and report.rows[0].name == "torch's Rows, output"
