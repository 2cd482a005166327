"""torchvision's classification models: one of each family agrees, and the page has how many convert."""

import re
from pathlib import Path
from unittest import mock

import pytest
import torch
import torchvision
from torch import nn

from nets.common.errors import ModuleError
from nets.convert.from_torch import from_torch
from tests.convert.test_from_torch import both_modes, moved, narrow

PAGE = Path(__file__).parents[2] / "docs" / "torch-models.md"
FAMILIES = ["densenet121", "efficientnet_b0", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small"]
FAMILIES += ["regnet_y_400mf", "resnext50_32x4d", "shufflenet_v2_x0_5", "convnext_tiny"]


@pytest.mark.deep
@pytest.mark.parametrize("size", [64, 37])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_of_each_family_agrees_in_both_modes(name, size):
    model = narrow(torchvision.models.get_model(name, weights=None))
    both_modes(moved(model), torch.randn(2, 3, size, size, dtype=torch.float64))


def converts(name: str) -> bool:
    """Whether a model without numbers converts in both modes."""
    init = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    same = {k: lambda t, *_, **__: t for k in vars(nn.init) if k.endswith("_") and not k.startswith("_")}
    try:
        with torch.device("meta"):
            model = torchvision.models.get_model(name, weights=None, **init)
    except NotImplementedError:  # the sizes of a RegNet are computed with tensors
        with mock.patch.multiple(nn.init, **same):
            model = torchvision.models.get_model(name, weights=None).to("meta")
    try:
        return all(from_torch(model.train(mode)) for mode in (True, False))
    except ModuleError as e:
        assert len(str(e).splitlines()) <= 10
        return False


@pytest.mark.deep
def test_the_page_has_the_number_of_models_that_convert():
    names = torchvision.models.list_models(module=torchvision.models)
    number, of = re.search(r"(\d+) of torchvision's (\d+) classification models", PAGE.read_text()).groups()
    assert (sum(map(converts, names)), len(names)) == (int(number), int(of))
