"""From a config's list of layers to a net: classes of one's own."""

import textwrap

import pytest
import torch

from nets.common.errors import UsageError
from nets.training.build import build
from nets.training.validate import refusal

MODULE = '''
import torch
from nets import Layer, Residual, Sequential


class Half(Residual):
    def forward(self, x):
        y, saved = super().forward(x)
        return y / 2, saved


class Double(Sequential):
    pass


class Take(Layer):
    """Features along one axis, by a table that is neither a parameter nor a buffer."""

    def __init__(self, dim: int = -1):
        super().__init__()
        self.dim, self.table = dim, torch.ones(4)

    def forward(self, x):
        return x * self.table, None

    def backward(self, saved, dy):
        return dy * self.table, {}
'''


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "own_layers_for_build.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("spec", [{"type": "Half", "body": ["ReLU"]}, {"type": "Double", "layers": ["ReLU"]}])
def test_a_net_class_of_ones_own_is_refused_and_not_replaced(spec):
    spec = spec | {"type": f"own_layers_for_build:{spec['type']}"}
    with pytest.raises(UsageError, match=r"net\.layers\[0\]: a class of one's own can't have layers inside"):
        build([spec], (4,))


def test_whole_numbers_of_ones_own_class_can_be_negative():
    net, shape = build([{"type": "own_layers_for_build:Take", "dim": -1}], (4,))
    assert net[0].dim == -1 and shape == (4,)
    with pytest.raises(UsageError, match="out_features: must be at least 1"):
        build([{"type": "Linear", "out_features": -1}], (4,))


def test_a_plain_tensor_of_a_layer_doesnt_make_it_refused():
    net, _ = build(["own_layers_for_build:Take"], (4,))
    assert refusal(net, (2, 4)) == "" and torch.equal(net[0].table, torch.ones(4))
