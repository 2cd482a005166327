"""from_torch: forwards of any form become Graphs that give the same numbers and gradients."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nets.convert.from_torch import from_torch
from tests.convert.test_from_torch import BACKWARD, FORWARD, agree, both_modes, forward
from tests.helpers import near


def dense(self, x):
    """As DenseNet: each part sees all before it."""
    h = self.a(x)
    return torch.cat([x, torch.cat([h], 1), self.a(torch.cat([h, x], 1)).tanh()], 1)


def crossed(self, x):
    a, b = self.a(x), x.tanh()
    c = a + b
    return a + c.relu() * b - a / (b * b + 1)


def weighted(self, x):
    return self.scale * self.a(x) + x @ self.a.weight


def shuffled(self, x):
    b, c, n = x.size()
    y = self.a(x).view(b, c // 2, 2, n).transpose(1, 2)
    return y.reshape(b, -1, n).permute(0, 2, 1).unsqueeze(1).squeeze(1)


def several(self, x):
    return self.pair(x, self.a(x))[0] - 0.5 * self.pair(x * 2, x)[1] / 3 + (1 - x)


def excited(self, x):
    """As a squeeze-and-excitation block."""
    return x * torch.sigmoid(self.a(x.mean(1, keepdim=True)))


def dropped(self, x):
    return F.dropout(self.a(x), 0.0, self.training) + F.dropout(x, 0.7, False)


FORMS = dict(
    dense=dense,
    crossed=crossed,
    weighted=weighted,
    shuffled=shuffled,
    several=several,
    excited=excited,
    dropped=dropped,
)


@pytest.mark.parametrize("name", FORMS)
def test_a_forward_of_any_form_is_a_graph_that_agrees(name):
    parts = dict(a=nn.Linear(4, 4), pair=forward(lambda self, x, y: (x * y, y.tanh())))
    module = forward(FORMS[name], **parts)
    module.scale = nn.Parameter(torch.rand(4))
    if name != "weighted":
        del module.scale
    both_modes(module.double(), torch.randn(2, 6, 4, dtype=torch.float64))


VIEWS = {
    "its own samples": lambda self, x: (lambda y: y.view(y.size(0), -1))(self.a(x)),
    "an earlier value's samples": lambda self, x: [x.shape[0], self.a(x)][1].view(x.shape[0], -1),
    "all sizes": lambda self, x: (lambda b, c, h, w: self.a(x).reshape(b, c * h * w))(
        *[x.size(i) for i in range(4)]
    ),
    "unpacked": None,
    "another axis's size": lambda self, x: self.a(x).view(x.size(1), -1),
    "fixed": lambda self, x: self.a(x).view(-1, 12),
}


def unpacked(self, x):
    b, c, _, _ = x.shape
    return self.a(x).view(b, c, -1)


@pytest.mark.parametrize("name", VIEWS)
def test_views_with_sizes_of_any_value(name):
    module = forward(VIEWS[name] or unpacked, a=nn.Conv2d(3, 3, 1)).double()
    net = agree(module, torch.randn(2, 3, 4, 2, dtype=torch.float64))
    x = torch.randn(4, 3, 2, 6, dtype=torch.float64)
    near(net(x), module(x).detach(), FORWARD, "another batch")
    if name in ("its own samples", "an earlier value's samples"):
        assert "Flatten()" in repr(net) and "Graph" not in repr(net)


def test_several_inputs_and_outputs():
    module = forward(
        lambda self, x, y, *, scale=2.0: (self.a(x) * y, x - scale * y), a=nn.Linear(4, 4)
    ).double()
    net = from_torch(module)
    x, y = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in "xy")
    ours, saved = net.forward(x.detach(), y.detach())
    theirs = module(x, y)
    dys = [torch.randn_like(z) for z in ours]
    dxs, grads = net.backward(saved, tuple(dys))
    found = torch.autograd.grad(theirs, [x, y, module.a.weight], dys)
    for a, b in zip([*ours, *dxs, grads["a.weight"]], [*theirs, *found], strict=True):
        near(a, b.detach(), BACKWARD, "one of several")
