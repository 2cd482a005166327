"""A step layer by layer: which backwards run, when each layer is updated, and what is held at once."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nets.layers.activations import GELU
from nets.layers.containers import Sequential
from nets.layers.conv import Conv2d
from nets.layers.linear import Flatten, Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.pool import GlobalMaxPool
from nets.losses import CrossEntropyLoss
from nets.optim.muon import Muon
from nets.optim.sgd import SGD
from nets.training.step import train_step


def frozen_net():
    torch.manual_seed(0)
    return Sequential(Conv2d(3, 4, 3), Conv2d(4, 4, 3, bias=False), GlobalMaxPool(), Flatten(), Linear(4, 2))


def test_frozen_first_layers_have_no_backward_and_other_gradients_are_the_same(monkeypatch):
    net, x, dy = frozen_net(), torch.randn(2, 3, 8, 8), torch.randn(2, 2)
    wanted = net.backward(net.forward(x)[1], dy)[1]
    called, backward = [], Conv2d.backward

    def watched(self, saved, dy, input_grad=True):
        called.append((self, input_grad))
        return backward(self, saved, dy, input_grad)

    monkeypatch.setattr(Conv2d, "backward", watched)
    saved = net.forward(x)[1]
    frozen = frozenset(["0.weight", "0.bias"])
    dx, grads = net.backward(saved, dy, input_grad=False, frozen=frozen)
    assert dx is None and saved == []
    assert list(grads) == [name for name in wanted if not name.startswith("0.")]
    assert all(torch.equal(g, wanted[name]) for name, g in grads.items())
    assert called == [(net[1], False)]  # nothing before it is trained, so its dx is left out
    net.backward(net.forward(x)[1], dy, input_grad=False, frozen=frozenset(["1.weight"]))
    assert called[1:] == [(net[1], True), (net[0], False)]


@pytest.mark.parametrize("kind", ["sgd", "muon"])
def test_a_step_that_updates_layer_by_layer_is_the_one_that_updates_at_the_end(kind):

    x, y, found = torch.randn(6, 3, 8, 8), torch.randint(2, (6,)), []
    for layerwise in (True, False):
        torch.manual_seed(0)
        conv = Conv2d(4, 4, 3, padding=1)
        layers = [Conv2d(3, 4, 3), BatchNorm2d(4), GELU(), conv, GELU(), conv, GlobalMaxPool(), Linear(4, 2)]
        net = Sequential(*layers, recompute=True)
        optimizer = {"sgd": SGD, "muon": Muon}[kind](net.params, 0.1, 0.9, True)
        optimizer.layerwise = layerwise
        step = train_step(net, CrossEntropyLoss(), optimizer)
        found.append([float(step(x, y, 1.0)[0]) for _ in range(4)])
        found[-1] += [p.clone() for p in net.params.values()]
    assert found[0][0] != found[0][3]
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(*found))


def test_updating_layer_by_layer_never_holds_all_gradients():
    """The largest sum of bytes of gradients that live at once, of four layers alike."""

    torch.manual_seed(0)
    net = Sequential(*(Linear(64, 64, bias=False) for _ in range(4)))
    alive, most = set(), []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            import weakref

            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.shape == (64, 64) and "mm" in str(func):
                alive.add(id(out))
                weakref.finalize(out, alive.discard, id(out))
                most.append(len(alive))
            return out

    for layerwise, allowed in ((True, 2), (False, 4)):
        optimizer = SGD(net.params, 0.1)
        optimizer.layerwise = layerwise
        step = train_step(net, CrossEntropyLoss(), optimizer)
        with Watch():
            step(torch.randn(3, 64), torch.tensor([0, 1, 2]), 1.0)
        assert max(most) <= allowed and (layerwise or max(most) == 4)
        most.clear()


def test_on_grads_gets_the_gradients_of_nested_nets_together():
    torch.manual_seed(0)
    shared = Linear(4, 4)
    net = Sequential(Linear(4, 4), shared, Linear(4, 4), shared, Sequential(Linear(4, 4), Linear(4, 3)))
    x, dy, taken = torch.randn(5, 4), torch.randn(5, 3), []
    whole = net.backward(net.forward(x)[1], dy)
    dx, left = net.backward(net.forward(x)[1], dy, on_grads=taken.append)
    assert left == {} and torch.equal(dx, whole[0])
    assert [sorted(t) for t in taken if t] == [
        ["4.0.bias", "4.0.weight", "4.1.bias", "4.1.weight"], ["2.bias", "2.weight"],
        ["1.bias", "1.weight"], ["0.bias", "0.weight"],
    ]  # fmt: skip
    found = {k: g for t in taken for k, g in t.items()}
    assert found.keys() == whole[1].keys()
    assert all(torch.equal(g, whole[1][k]) for k, g in found.items())
