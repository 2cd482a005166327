"""gradcheck of layers of one's own: subclasses, index buffers, names of any kind."""

import pytest
import torch
from torch import nn

from nets.gradcheck import check
from nets.gradcheck.reference import OwnForward, differentiate, is_own
from nets.layers.activations import GELU, Tanh
from nets.layers.base import Layer
from nets.layers.containers import Net, Sequential
from nets.layers.conv import Conv2d
from nets.layers.dropout import Dropout
from nets.layers.linear import Linear
from nets.layers.norm import BatchNorm2d


class Permute(Layer):
    """Features in another order, by a buffer of indices."""

    def __init__(self):
        super().__init__()
        self.buffers["order"] = torch.tensor([2, 0, 1])

    def forward(self, x):
        return x[:, self.buffers["order"]], None

    def backward(self, saved, dy):
        dx = torch.empty_like(dy)
        dx[:, self.buffers["order"]] = dy
        return dx, {}


def test_a_dtype_converts_floating_tensors_alone():
    layer = Permute().to("cpu", torch.float64)
    assert layer.buffers["order"].dtype == torch.int64
    assert check(Permute(), torch.randn(4, 3, dtype=torch.float64)).ok


class Named(Layer):
    """y = a·x, whose parameter has a name that no attribute of a module can have."""

    def __init__(self, name):
        super().__init__()
        self.params[name] = torch.tensor([2.0])

    def forward(self, x):
        (a,) = self.params.values()
        return a.to(x.dtype) * x, x

    def backward(self, saved, dy):
        (name, a), *_ = self.params.items()
        return a.to(dy.dtype) * dy, {name: (saved * dy).sum()[None].to(a.dtype)}


@pytest.mark.parametrize("name", ["q.weight", "type", "layer", "tensors", "forward"])
def test_a_parameter_can_have_any_name(name):
    assert check(Named(name), torch.randn(3, 4, dtype=torch.float64)).ok


class WeightedConv(Conv2d):
    """A Conv2d that saves its weight too."""

    def forward(self, x):
        y, saved = super().forward(x)
        return y, (saved, self.params["weight"])

    def backward(self, saved, dy, input_grad=True):
        return super().backward(saved[0], dy, input_grad)


class Shifted(BatchNorm2d):
    """A BatchNorm2d whose output is larger by 1: `output` of the base class isn't its output."""

    def forward(self, x):
        y, saved = super().forward(x)
        return y + 1, saved


@pytest.mark.parametrize(
    "make", [lambda: (GELU(), WeightedConv(3, 4, 3)), lambda: (Shifted(3), Conv2d(3, 4, 3))]
)
def test_recomputing_leaves_subclasses_with_their_own_forward_alone(make):
    torch.manual_seed(0)
    net = Sequential(*make()).to(torch.float64)
    x, dy = torch.randn(2, 3, 6, 6, dtype=torch.float64), torch.randn(2, 4, 4, 4, dtype=torch.float64)
    dx, grads = net.backward(net.forward(x)[1], dy)
    net.recompute = True
    again, grads_again = net.backward(net.forward(x)[1], dy)
    assert torch.equal(dx, again) and all(torch.equal(g, grads_again[k]) for k, g in grads.items())
    assert not Shifted.recomputes_output() and not WeightedConv.saves_input()
    assert BatchNorm2d.recomputes_output() and Conv2d.saves_input() and GELU.recomputes_output()


class ChannelDropout(Dropout):
    """Drops whole channels; its torch module is another one than Dropout's."""

    def forward(self, x):
        return x, None

    def to_torch(self, **_):
        return nn.Identity()


def test_a_reference_isnt_inherited_past_another_torch_module():
    assert ChannelDropout.has_torch() and isinstance(ChannelDropout(0.5).to_reference(), nn.Identity)
    assert is_own(Shifted(3)) and not is_own(BatchNorm2d(3))
    assert OwnForward.named_tensors is False
    x = torch.randn(2, 3, dtype=torch.float64)
    assert torch.equal(differentiate(ChannelDropout(0.5), x, torch.ones_like(x)).dx, torch.ones_like(x))


class Round(Layer):
    """A straight-through estimator."""

    surrogate = ("input",)

    def __init__(self, factor=1.0):
        super().__init__()
        self.params["a"] = torch.tensor([2.0])
        self.factor = factor

    def forward(self, x):
        n = x.round()
        return self.params["a"].to(x.dtype) * n, n

    def backward(self, n, dy):
        a = self.params["a"].to(dy.dtype)
        return a * dy, {"a": self.factor * (dy * n).sum()[None]}


def test_a_declared_surrogate_is_not_judged_and_its_other_tensors_are():
    x = torch.randn(4, 5, dtype=torch.float64)
    report = check(Round(), x)
    assert report.ok and {row.tensor: row.verdict for row in report.rows} == {"a": "ok", "input": "declared"}
    assert "declared as a surrogate, not judged: Round, input" in report.table()
    assert check(Sequential(Linear(5, 5), Round(), Tanh()).to(torch.float64), x).ok
    assert check(Round(2.0), x).guilty == ["Round, a"]
    Round.surrogate = ()
    try:
        assert check(Round(), x).guilty == ["Round, input"]
    finally:
        Round.surrogate = ("input",)


class HeldConstant(Layer):
    """y = x · x.detach(): autograd sees the constant, finite differences can't."""

    surrogate = "input"

    def forward(self, x):
        return x * x.detach(), x

    def backward(self, x, dy):
        return x * dy, {}


def test_a_factor_that_is_held_constant_can_be_declared():
    report = check(HeldConstant(), torch.randn(4, 5, dtype=torch.float64))
    assert report.ok and report.rows[0].verdict == "ok" and report.rows[0].difference is None


class Base(Layer):
    """y = scale()·x; its module knows the scale of this class."""

    def scale(self):
        return 2.0

    def forward(self, x):
        return self.scale() * x, None

    def backward(self, saved, dy):
        return self.scale() * dy, {}

    def to_torch(self, **_):
        return Doubled()


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


class OtherScale(Base):
    def scale(self):
        return 3.0


def test_a_subclass_that_redefines_what_forward_calls_has_no_reference_of_its_parent():
    x = torch.randn(4, 5, dtype=torch.float64)
    assert not is_own(Base()) and is_own(OtherScale())
    assert check(Base(), x).ok and check(OtherScale(), x).ok


class Wrapper(Net):
    """A net as somebody may write it: options of an inner net's backward are keywords."""

    def __init__(self):
        super().__init__(inner=Sequential(Conv2d(3, 4, 3), GELU()))

    def forward(self, x):
        y, saved = self.children["inner"].forward(x)
        return y, [saved]

    def backward(self, saved, dy, keep=False):
        dx, grads = self.children["inner"].backward(saved[0], dy, keep=keep)
        return dx, {f"inner.{name}": g for name, g in grads.items()}


def test_options_of_a_nets_backward_are_keywords():
    assert check(Wrapper(), torch.randn(2, 3, 6, 6, dtype=torch.float64)).ok
    net = Sequential(Conv2d(3, 4, 3))
    y, saved = net.forward(torch.randn(2, 3, 6, 6))
    with pytest.raises(TypeError, match="positional argument"):
        net.backward(saved, y, True)
