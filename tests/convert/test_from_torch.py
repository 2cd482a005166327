"""from_torch: a torch.nn model and our net of it give the same numbers and gradients.

By default one model of each of torchvision's families is checked; --deep checks all of its AlexNet, VGGs
and ResNets, at their full depth. Classifiers are narrow: 4,096 wide, in float64, they would take 8 GB.
"""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from nets.common.errors import ModuleError, UsageError
from nets.convert.from_torch import from_torch
from nets.convert.to_torch import to_torch
from nets.gradcheck import breaches
from nets.gradcheck.trace import named_layers
from nets.layers.base import Layer
from nets.layers.containers import Residual, Sequential
from nets.layers.piecewise import HardsigmoidModule
from tests.helpers import DEVICES, near

FORWARD, BACKWARD = 1e-12, 1e-9
VGGS = [f"vgg{n}{bn}" for n in (11, 13, 16, 19) for bn in ("", "_bn")]
EVERY = ["alexnet", *VGGS, "resnet18", "resnet34", "resnet50"]


def moved(module):
    """The module in float64 with statistics and scales of norms that are not 0 and 1."""
    module = module.to(torch.float64)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            for t in (m.weight, m.bias, m.running_mean, m.running_var):
                if t is not None:
                    t.data.uniform_(0.5, 1.5)
    return module


def agree(module, x):
    """Forward, running statistics and every gradient in the module's mode; gives our net."""
    net, oracle = from_torch(module), copy.deepcopy(module)
    ours, theirs = x.clone(), x.clone().requires_grad_()
    for part in oracle.modules():
        if type(part) is nn.Hardsigmoid:  # whose own gradient is 3e-8 off in float64
            part.__class__ = HardsigmoidModule
    torch.manual_seed(0)
    y, saved = net.forward(ours)
    torch.manual_seed(0)
    z = oracle(theirs * 1)  # a leaf must not be written to in place
    near(y, z.detach(), FORWARD, "y")
    state = oracle.state_dict()
    for name in net.buffers:
        near(net.buffers[name], state[net.torch_names[name]], FORWARD, name)
    dy = torch.randn_like(y)
    dx, grads = net.backward(saved, dy)
    z.backward(dy)
    near(dx, theirs.grad, BACKWARD, "dx")
    params = dict(oracle.named_parameters())
    assert sorted(net.torch_names[name] for name in net.params) == sorted(params)
    most = max((g.abs().max().item() for g in grads.values()), default=0.0)
    for name, g in grads.items():  # a bias before a norm has a gradient of 0 but for rounding
        near(g, params[net.torch_names[name]].grad, BACKWARD, name, floor=1e-3 * most)
    return net


def both_modes(module, x):
    """Dropout draws in its own way in training, and so with p = 0 there."""
    agree(module.eval(), x)
    for m in module.modules():
        if isinstance(m, nn.Dropout):
            m.p = 0.0
    return agree(module.train(), x)


def narrow(model, width=24):
    """The same model with classifiers that are quick in float64."""
    if isinstance(getattr(model, "classifier", None), nn.Sequential):
        linears = [i for i, m in enumerate(model.classifier) if isinstance(m, nn.Linear)]
        inputs = model.classifier[linears[0]].in_features
        for i in linears:
            model.classifier[i], inputs = nn.Linear(inputs, width), width
    return model


def agrees(model):
    both_modes(moved(narrow(model)), torch.randn(2, 3, 64, 64, dtype=torch.float64))


@pytest.mark.parametrize("name", ["alexnet", "vgg11_bn", "resnet18"])
def test_a_model_of_each_of_torchvisions_families_agrees(name):
    agrees(torchvision.models.get_model(name, weights=None))


def test_the_bottleneck_blocks_of_resnet50_agree():
    model = torchvision.models.resnet50(weights=None)
    model.layer2, model.layer3 = model.layer2[:1], nn.Identity()
    model.layer4, model.fc = nn.Identity(), nn.Linear(512, 24)
    agrees(model)


@pytest.mark.deep
@pytest.mark.parametrize("name", [name for name in EVERY if name not in ("alexnet", "vgg11_bn", "resnet18")])
def test_every_other_model_of_torchvisions_families_agrees(name):
    agrees(torchvision.models.get_model(name, weights=None))


def test_structure_and_names_of_a_resnet():
    net = from_torch(torchvision.models.resnet18())
    names = dict(named_layers(net))
    assert sum(isinstance(layer, Residual) for layer in names.values()) == 8
    assert net.torch_names["4.0.0.body.3.weight"] == "layer1.0.conv2.weight"
    assert net.torch_names["5.0.0.shortcut.1.running_var"] == "layer2.0.downsample.1.running_var"
    assert net.torch_names.keys() == (net.params | net.buffers).keys()


class Pre(nn.Module):
    """A pre-activation block, with a way inside a way, and the usual calls."""

    def __init__(self, c=4):
        super().__init__()
        self.norm, self.conv1 = nn.BatchNorm2d(c), nn.Conv2d(c, c, 3, padding="same", bias=False)
        self.conv2, self.short = nn.Conv2d(c, c, 1), nn.Sequential()
        self.inner = nn.ModuleList([nn.Conv2d(c, c, 3, padding=1, groups=2) for _ in range(2)])

    def forward(self, x, scale=0.5):
        h = F.silu(self.norm(x))
        h = self.conv2(F.gelu(h + self.inner[1](torch.tanh(self.inner[0](h)))))
        return self.short(x) * scale + (torch.sigmoid(self.conv1(x)) + torch.add(x, h))


class Calls(nn.Module):
    def __init__(self, end):
        super().__init__()
        self.pre, self.end = Pre(), end
        self.head = nn.Linear(4 * (9 if end != "mean" else 1), 5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.pre(x), inplace=True), 2)
        x = F.adaptive_avg_pool2d(F.avg_pool2d(x, 2, stride=1, padding=1), (3, 3))
        x += x
        x *= 0.7
        x = x.relu()
        if self.end == "mean":
            x = x.mean((2, 3))
        elif self.end == "size":
            x = x.view(x.size(0), -1)
        elif self.end == "shape":
            x = x.reshape((x.shape[0], -1))
        else:
            x = x.flatten(1) if self.end == "method" else torch.flatten(x, start_dim=1)
        return self.head(x)


@pytest.mark.parametrize("end", ["mean", "size", "shape", "method", "function"])
def test_a_users_forward_is_traced_and_agrees(end):
    net = both_modes(moved(Calls(end)), torch.randn(3, 4, 8, 9, dtype=torch.float64))
    assert breaches(net, torch.randn(3, 4, 8, 9, dtype=torch.float64)) == []


@pytest.mark.parametrize("device", DEVICES)
def test_a_plain_sequential_of_every_known_module_agrees(device):
    same = nn.Linear(7, 7)
    tied = nn.Linear(7, 7)
    tied.weight = same.weight
    module = nn.Sequential(
        *(nn.Conv2d(3, 6, (3, 2), (2, 1), (1, 0), bias=False), nn.BatchNorm2d(6, 1e-3, 0.3), nn.ReLU(True)),
        *(nn.Conv2d(6, 4, 3, dilation=2, padding="valid"), nn.BatchNorm2d(4, affine=False), nn.GELU("tanh")),
        *(nn.MaxPool2d(3, 2, 1), nn.AvgPool2d((2, 1), 1), nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten()),
        nn.Sequential(nn.Identity(), nn.Dropout(0.4), nn.Linear(24, 7, bias=False), nn.Sequential(nn.SiLU())),
        *(same, nn.Sigmoid(), same, nn.Tanh(), tied),
    )
    net = both_modes(moved(module).to(device), torch.randn(2, 3, 19, 17, dtype=torch.float64, device=device))
    assert sorted(net.torch_names[k] for k in net.params if "bias" not in k)[:2] == ["0.weight", "1.weight"]
    assert len(net.params) == len(list(module.parameters()))  # what is shared is there once


def test_from_torch_is_the_inverse_of_to_torch():
    for module in (torchvision.models.resnet18(), nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(2))):
        net = from_torch(module.eval())
        again = from_torch(to_torch(net))
        assert again.params.keys() == net.params.keys() and again.buffers.keys() == net.buffers.keys()
        assert [n for n, _ in named_layers(again)] == [n for n, _ in named_layers(net)]
        assert all(torch.equal(again.params[k], t) for k, t in net.params.items())
        x = torch.randn(2, 3, 32, 32)
        assert torch.equal(net.forward(x)[0], again.forward(x)[0])


def test_from_torch_clones_weights_and_changes_neither_module_nor_random_state():
    module = torchvision.models.resnet18()
    module.layer1.eval()
    before, modes = copy.deepcopy(module.state_dict()), [m.training for m in module.modules()]
    state = torch.get_rng_state()
    net = from_torch(module)
    assert torch.equal(torch.get_rng_state(), state)
    for t in (*net.params.values(), *net.buffers.values()):
        assert not t.requires_grad
        t.add_(1)
    assert all(torch.equal(t, before[k]) for k, t in module.state_dict().items())
    assert [m.training for m in module.modules()] == modes
    layers = list(net.children.values())
    assert net.training and layers[5].training
    assert not any(layer.training for layer in layers[4].walk())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_type_of_the_weights_is_kept(dtype):
    net = from_torch(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).to(dtype))
    assert {t.dtype for t in (net.params | net.buffers).values()} == {dtype}


def test_a_module_that_does_nothing_becomes_a_layer():
    for module in (nn.Identity(), nn.Sequential(), nn.Sequential(nn.Sequential(), nn.Identity())):
        net, x = from_torch(module), torch.randn(2, 3)
        assert isinstance(net, Layer) and torch.equal(net.forward(x)[0], x)
    assert isinstance(from_torch(nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh(), nn.Tanh()))), Sequential)


def forward(of, **parts):
    """A module with these parts whose forward is `of`."""
    module = type("Odd", (nn.Module,), {"forward": of})()
    for name, part in parts.items():
        setattr(module, name, part)
    return module


UNSUPPORTED = {
    "Conv2d with padding_mode='reflect' (0)": lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
    "RReLU (0)": nn.RReLU,
    "BatchNorm2d with momentum=None (0)": lambda: nn.BatchNorm2d(4, momentum=None),
    "output_size=(None, 2) (0)": lambda: nn.AdaptiveAvgPool2d((None, 2)),
    "isn't the same on both sides (0)": lambda: nn.Conv2d(4, 4, 2, padding="same"),
    "can't be traced: symbolically traced variables cannot be used as inputs to control flow (0)": lambda: (
        forward(lambda self, x: x if x.sum() > 0 else -x)
    ),
}


def test_every_unsupported_part_is_named_in_one_error():
    module = nn.Sequential(*(make() for make in UNSUPPORTED.values()))
    with pytest.raises(ModuleError) as error:
        from_torch(module)
    assert isinstance(error.value, UsageError) and isinstance(error.value, ValueError)
    head, *lines = str(error.value).splitlines()
    assert head == "no layer here is for these parts of Sequential:"
    for i, (words, line) in enumerate(zip(UNSUPPORTED, lines, strict=True)):
        assert words.replace("(0)", f"({i})") in line


def test_a_refusal_has_the_lines_of_the_forward_and_what_is_in_children_too():
    """Also inside children that take several inputs, which are traced with their parent."""
    child = forward(lambda self, x, y: torch.erfinv(x) + self.odd(y), odd=nn.RReLU())
    module = forward(lambda self, x: torch.erfinv(self.child(x, x.digamma())), child=child)
    with pytest.raises(ModuleError) as error:
        from_torch(nn.Sequential(*[module] * 5))
    lines = str(error.value).splitlines()
    assert len(lines) == 4 and "test_from_torch.py:" in lines[1]
    assert any(
        line.startswith("  RReLU (0.child.odd; 1.child.odd; 2.child.odd; and 2 more") for line in lines
    )
    assert any("digamma (0, test_from_torch.py" in line and "and 2 more places" in line for line in lines)


TANGLES = {
    "a pair": (lambda self, x: (x, x), "anything but one tensor"),
    "a weighted sum": (lambda self, x: torch.add(x, self.a(x), alpha=2), "add with alpha=2"),
    "nowhere": (lambda self, x: [self.a(x), x.relu()][1], "a leads nowhere"),
    "modes": (lambda self, x: self.a(x) if self.training else x, "isn't the same in training and eval"),
    "a mean over everything": (lambda self, x: x.mean(), "mean over everything"),
    "a dropout that never stops": (lambda self, x: F.dropout(x, 0.1), "drops in evaluation too"),
    "a pool with indices": (
        lambda self, x: F.max_pool2d(x, 2, return_indices=True)[0],
        "max_pool2d_with_indices",
    ),
    "sizes of many axes": (lambda self, x: x.reshape(x.shape), "a whole shape as an argument"),
    "a number divided": (lambda self, x: 2 / x, "division of a number"),
}


@pytest.mark.parametrize("of, words", TANGLES.values(), ids=[k.replace(" ", "-") for k in TANGLES])
def test_a_forward_that_no_layer_describes_is_refused(of, words):
    module = forward(of, a=nn.Linear(4, 4)).eval()
    with pytest.raises(ModuleError) as error:
        from_torch(nn.Sequential(nn.Tanh(), module))
    assert words in str(error.value) and "(1" in str(error.value)
    assert not module.training


def test_a_class_in_place_of_a_module_is_refused():
    with pytest.raises(ModuleError, match="no torch.nn.Module"):
        from_torch(nn.ReLU)


def alias(self, x):
    same = self.drop(x)
    return self.act(x) + same


def shortcut(self, x):
    return x + self.act(x)


def sum_in_place(self, x):
    y = x.flatten(1)
    x += self.conv(x)
    return y + x.flatten(1)


def nested(self, x):
    return self.conv(self.body(x)) + x


@pytest.mark.parametrize("of", [alias, shortcut, sum_in_place, nested])
def test_a_write_in_place_that_another_part_reads_is_refused(of):
    """Where nothing is in place, the same forward is taken, and right."""
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)

    def make(inplace):
        parts = dict(act=nn.ReLU(inplace), drop=nn.Dropout(0.0), conv=nn.Conv2d(3, 3, 1))
        parts["body"] = nn.Sequential(nn.Identity(), nn.Sequential(nn.ReLU(inplace), nn.Tanh()))
        if of is sum_in_place and not inplace:
            return forward(lambda self, x: x.flatten(1) + (x + self.conv(x)).flatten(1), **parts)
        return forward(of, **parts)

    used = make(False).to(torch.float64)
    y, _ = from_torch(used).forward(x)
    near(y, used(x).detach(), FORWARD, "y")
    with pytest.raises(ModuleError, match="written to in place"):
        from_torch(make(True))


def test_a_write_in_place_that_no_other_part_reads_is_taken():
    def of(self, x):
        h = self.conv(self.act(self.conv(x)))  # as in torchvision's blocks
        h += x
        return self.act(h)

    module = forward(of, act=nn.ReLU(True), conv=nn.Conv2d(3, 3, 1)).to(torch.float64)
    agree(module, torch.randn(2, 3, 4, 4, dtype=torch.float64))


@pytest.mark.parametrize("written", ["module", "call"])
def test_local_response_norm_is_known_as_module_and_as_call(written):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)
            self.norm = nn.LocalResponseNorm(5, 0.3, 0.75, 2.0)

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y) if written == "module" else F.local_response_norm(y, 5, 0.3, 0.75, 2.0)

    torch.manual_seed(0)
    module, x = Net().double(), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    assert torch.allclose(from_torch(module).forward(x)[0], module(x), rtol=1e-12)
