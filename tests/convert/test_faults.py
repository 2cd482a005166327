"""What torch computes beside a module's own forward is refused in one line, wherever it is."""

import warnings

import pytest
import torch
from torch import fx, nn

from nets.common.errors import ModuleError
from nets.convert import faults
from nets.convert.from_torch import from_torch


def row():
    return nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.ReLU())


def nothing(*_):
    return None


def replaced_by_a_plain_tensor(module):
    weight = module.weight.detach() * 2
    del module.weight
    module.weight = weight


CONV = {
    "Conv2d with forward hooks": lambda m: m.register_forward_hook(nothing),
    "Conv2d with forward pre-hooks": lambda m: m.register_forward_pre_hook(nothing),
    "Conv2d with backward hooks": lambda m: m.register_full_backward_hook(nothing),
    "Conv2d with backward pre-hooks": lambda m: m.register_full_backward_pre_hook(nothing),
    "Conv2d with a gradient hook on weight": lambda m: m.weight.register_hook(nothing),
    "Conv2d with a hook after its gradient on bias": lambda m: m.bias.register_post_accumulate_grad_hook(
        nothing
    ),
    "Conv2d with a forward put into it": lambda m: setattr(m, "forward", nothing),
    "Conv2d with a parametrization of weight": nn.utils.parametrizations.weight_norm,
    "Conv2d with a parametrization of weight (": nn.utils.parametrizations.spectral_norm,
    "Conv2d with a weight that is no parameter or buffer": replaced_by_a_plain_tensor,
    "Conv2d with a weight that is no parameter": nn.utils.weight_norm,
    "Conv2d with a weight of (5, 3, 3, 3), not (4, 3, 3, 3)": lambda m: setattr(
        m, "weight", nn.Parameter(torch.ones(5, 3, 3, 3))
    ),
    "Conv2d without weight": lambda m: setattr(m, "weight", None),
    "Conv2d with a weight of torch.complex64": lambda m: m.weight.__setattr__(
        "data", m.weight.to(torch.complex64)
    ),
}


def refused(module) -> str:
    with pytest.raises(ModuleError) as error:
        from_torch(module)
    text = str(error.value)
    assert len(text.splitlines()) < 4 and len(text) < 300
    return text


@pytest.mark.parametrize("words, change", CONV.items(), ids=lambda v: v if isinstance(v, str) else "")
def test_a_module_that_computes_something_beside_its_forward_is_refused(words, change):
    module = row()
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        change(module[0][0])
    text = refused(module)
    assert words in text and "(0.0" in text


@pytest.mark.parametrize("name", ["weight", "bias", "running_mean", "running_var"])
def test_a_batch_norm_without_one_of_its_tensors_is_refused(name):
    module = row()
    setattr(module[0][1], name, None)
    assert f"BatchNorm2d without {name} (0.1)" in refused(module)


def test_a_batch_norm_without_statistics_is_refused():
    module = nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False))
    assert "track_running_stats=False" in refused(module)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 3)

    def forward(self, x):
        return x + self.body(x)


@pytest.mark.parametrize("make", [row, lambda: nn.Sequential(Block())], ids=["row", "traced"])
@pytest.mark.parametrize("where", ["", "0"])
@pytest.mark.parametrize(
    "register",
    ["forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook", "backward_hook"],
)
def test_hooks_on_a_net_are_refused_as_those_on_its_layers(make, where, register):
    module = make()
    getattr(module.get_submodule(where), f"register_{register}")(nothing)
    assert "hooks (" in refused(module)


def test_hooks_of_every_module_are_refused():
    handle = nn.modules.module.register_module_full_backward_hook(nothing)
    try:
        assert "backward hooks of every module" in refused(row())
    finally:
        handle.remove()
    assert faults.everywhere() == []


def test_what_torch_jit_compiled_is_refused():
    with warnings.catch_warnings(action="ignore"):
        scripted = torch.jit.script(row())
        traced = torch.jit.trace(row().eval(), torch.ones(1, 3, 5, 5))
    for module in (scripted, traced, nn.Sequential(scripted), nn.Sequential(nn.ReLU(), traced)):
        assert "compiled by torch.jit (convert the module that it was compiled from)" in refused(module)


@pytest.mark.parametrize("wrap", [fx.symbolic_trace, torch.compile])
def test_a_module_that_fx_or_compile_wraps_is_converted(wrap):
    module = row().eval()
    wrapped, x = wrap(module), torch.randn(2, 3, 5, 5)
    net = from_torch(wrapped)
    assert torch.equal(net(x), module(x))
    assert net.torch_names.keys() == net.state_dict().keys()
    assert set(net.torch_names.values()) < set(wrapped.state_dict())  # without num_batches_tracked


def test_a_state_dict_is_refused_without_printing_it():
    text = refused(row().state_dict())
    assert text.startswith("from_torch takes a torch.nn.Module, not a state dict")
    assert "load_state_dict" in text
    assert refused(3).endswith("int is no torch.nn.Module")
