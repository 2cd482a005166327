"""The registry: one class makes a layer known to configs, the checker, and conversion from and to torch."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nets.commands.gradcheck import main as gradcheck
from nets.commands.targets import everything
from nets.common.errors import Unsupported
from nets.convert.from_torch import from_torch
from nets.convert.to_torch import to_torch
from nets.convert.torch_parts import calls, modules
from nets.layers.activations import ReLU
from nets.layers.base import Layer
from nets.layers.containers import Sequential
from nets.layers.linear import Linear
from nets.layers.registry import LAYERS, Operand, examples, register, require
from nets.training.build import build

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"


def page_source() -> str:
    """The layer that CONTRIBUTING.md adds as an example."""
    page = CONTRIBUTING.read_text(encoding="utf-8")
    (code,) = re.findall(r'^```python title="nets/layers/celu.py"\n(.*?)^```$', page, re.M | re.S)
    return code


@pytest.fixture
def celu(tmp_path):
    """A layer in a file of its own: registered, and forgotten afterwards."""
    (tmp_path / "celu_layer.py").write_text(page_source(), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("celu_layer", tmp_path / "celu_layer.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["celu_layer"] = module
    before = dict(LAYERS)
    try:
        spec.loader.exec_module(module)
        yield module.CELU
    finally:
        LAYERS.clear()
        LAYERS.update(before)
        sys.modules.pop("celu_layer")


def test_a_layer_in_one_file_is_in_the_registry_and_in_the_list_of_all_checks(celu):
    assert LAYERS["CELU"] is celu and "CELU" in everything()
    assert [shape for _, _, shape in examples(celu)] == [(5, 6), (3, 4, 7, 8)]


def test_a_registered_layer_is_built_from_a_config(celu):
    net, shape = build(["Flatten", {"type": "CELU", "alpha": 0.3}], (3, 4, 4))
    assert type(net[1]) is celu and net[1].alpha == 0.3 and shape == (48,)


def test_a_registered_layer_is_checked_by_name(celu, capsys):
    gradcheck(["CELU", "--device", "cpu"])
    out = capsys.readouterr().out
    assert "every gradient agrees" in out and "CELU(alpha=0.5)" in out


def test_a_registered_layer_converts_from_and_to_torch(celu):
    class Called(nn.Module):
        def forward(self, x):
            return nn.functional.celu(x, 0.2)

    x = torch.randn(4, 5)
    for module in (nn.Sequential(nn.CELU(0.2), nn.Tanh()), nn.Sequential(Called(), nn.Tanh())):
        net = from_torch(module)
        assert type(net[0]) is celu and net[0].alpha == 0.2
        assert torch.equal(net(x), module(x)) and torch.equal(to_torch(net)(x), module(x))


def test_a_registered_layers_call_in_place_is_known_as_one(celu):
    """What is read after it would have other values."""

    class InPlace(nn.Module):
        def forward(self, x):
            return torch.celu_(x.tanh(), 0.2)

    class ReadsLater(nn.Module):
        def forward(self, x):
            y = x.tanh()
            return torch.celu_(y, 0.2) + y

    x = torch.randn(4, 5)
    assert torch.equal(from_torch(InPlace())(x), InPlace()(x))
    with pytest.raises(ValueError, match="reads what was written to in place"):
        from_torch(ReadsLater())


def test_the_temporary_layer_is_gone_again():
    assert "CELU" not in LAYERS and nn.CELU not in modules() and "celu" not in calls()


def test_every_layer_is_registered_under_its_class_name_with_examples():
    for name, cls in LAYERS.items():
        assert cls.__name__ == name and issubclass(cls, Layer) and cls.examples and cls.has_torch(), name
        for _, layer, shape in examples(cls):
            assert layer.forward(torch.randn(shape))[0].dtype == torch.float32


def test_two_layers_of_one_name_are_refused():
    other = type("ReLU", (Layer,), {})
    with pytest.raises(ValueError, match="two layers are called ReLU"):
        register(other)
    assert LAYERS["ReLU"] is ReLU and register(ReLU) is ReLU


def test_every_torch_type_and_call_belongs_to_one_layer():
    types = [kind for cls in LAYERS.values() for kind in cls.torch_types]
    names = [name for cls in LAYERS.values() for name in cls.torch_calls]
    assert len(types) == len(set(types)) and len(names) == len(set(names))


@pytest.mark.parametrize(
    "name", [name for name in LAYERS if name not in ("Sequential", "Residual", "Whiten2d")]
)
def test_from_torch_is_the_inverse_of_to_torch(name):
    """Whiten2d becomes a convolution, whose filters are then trained."""
    for _, layer, shape in examples(LAYERS[name]):
        layer.eval()
        again = from_torch(to_torch(layer))
        assert type(again) is type(layer) and repr(again) == repr(layer) and not again.training
        assert again.params.keys() == layer.params.keys()
        x = torch.randn(shape)
        assert torch.equal(again(x), layer(x))


def test_require_names_the_option_that_a_layer_lacks():
    with pytest.raises(Unsupported, match="MaxPool2d with ceil_mode=True"):
        require(nn.MaxPool2d(2, ceil_mode=True), ceil_mode=False)
    require(nn.MaxPool2d(2), ceil_mode=False)


def test_the_options_of_an_example_are_in_its_name():
    assert next(text for text, _, _ in examples(Linear)) == "Linear(in_features=6, out_features=3)"
    assert next(text for text, _, _ in examples(Sequential)) == "Sequential()"
    assert str(Operand(0)) == "a tensor"  # as refusals show it
